// Where the tokens of the current picture look, fetched when somebody wants to see it.

import { useState } from "preact/hooks";

import { type Api, isAbort, told } from "../api";
import type { Look } from "../documents";
import { useLater } from "../later";
import type { PictureState } from "./use-picture";

export interface LookState {
  look: Look | null;
  problem: string | null;
}

const NOTHING: LookState = { look: null, problem: null };

export function useLook(
  api: Api,
  of: PictureState,
  on: boolean,
  model: string,
  question: string,
  tokens: number | "adaptive" | null,
): LookState {
  const [state, setState] = useState(NOTHING);
  const wanted = on && of.picture !== null && tokens !== null;
  useLater(wanted ? 300 : 0, [wanted, of.picture, model, question, tokens], (signal) => {
    if (!wanted) {
      setState(NOTHING);
      return;
    }
    of.withId((image) => api.look({ model, image, question, visual_tokens: tokens }, signal)).then(
      (look) => signal.aborted || setState({ look, problem: null }),
      (error: unknown) => isAbort(error) || signal.aborted || setState({ look: null, problem: told(error) }),
    );
  });
  return state;
}
