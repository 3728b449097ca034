// What an answer would cost, before it is paid.

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { type Api, type ChatBody, isAbort, Refused, told } from "../api";
import type { Count } from "../documents";
import { flops, plural, time } from "../format";
import { useLater } from "../later";
import { Breakdown, Problem, stageName } from "../parts";
import type { PictureState } from "./use-picture";

export interface CountState {
  count: Count | null;
  problem: string | null;
}

/** Counts what `write` makes of the picture's id whenever `changes` have settled. */
export function useCount(
  api: Api,
  of: PictureState,
  write: (picture: string | null) => ChatBody | null,
  changes: readonly unknown[],
  onLocked: () => void,
): CountState {
  const [state, setState] = useState<CountState>({ count: null, problem: null });
  useLater(300, [of.picture, ...changes], (signal) => {
    const run = async (picture: string | null) => {
      const body = write(picture);
      return body ? api.count(body, signal) : null;
    };
    (of.picture ? of.withId(run) : run(null)).then(
      (count) => signal.aborted || setState({ count, problem: null }),
      (error: unknown) => {
        if (isAbort(error) || signal.aborted) {
          return;
        }
        if (error instanceof Refused && error.status === 401) {
          onLocked();
        }
        setState({ count: null, problem: told(error) });
      },
    );
  });
  return state;
}

export function Cost({ count, problem }: CountState): JSX.Element {
  return (
    <section class="cost" aria-labelledby="cost-title">
      <h3 id="cost-title">What it would cost</h3>
      {problem && <Problem>{problem}</Problem>}
      {count && (
        <>
          <dl class="figures">
            <Figure name="time" value={count.predicted_ms === null ? "–" : time(count.predicted_ms)} />
            <Figure name="work" value={flops(count.flops_at_most)} />
            <Figure name="image tokens" value={String(count.image_tokens)} />
            <Figure name="text tokens" value={String(count.text_tokens)} />
          </dl>
          <details>
            <summary>Where the work goes</summary>
            <p class="hint">
              {flops(count.flops)} until the first token; the rest if the answer has all{" "}
              {plural(count.new_tokens, "token")}.
            </p>
            <Breakdown
              label="Until the first token"
              shares={count.stages.map((stage) => ({
                name: stageName(stage.stage),
                value: stage.flops,
                text: flops(stage.flops),
              }))}
            />
          </details>
        </>
      )}
      {!count && !problem && <p class="hint">Ask something, and it is counted here first.</p>}
    </section>
  );
}

export function Figure({ name, value }: { name: string; value: string }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
