// The answers so far, and asking for more.

import { useCallback, useRef, useState } from "preact/hooks";

import { type Api, isAbort, Refused, told } from "../api";
import type { Account, Count, Usage, VisualTokens } from "../documents";
import { plural, time } from "../format";
import { body, type Settings, wanted } from "./question";
import type { PictureState } from "./use-picture";

export interface Answer {
  key: number;
  question: string;
  /** The picture's address, for this page alone. */
  picture: string | null;
  wanted: VisualTokens;
  latency: number | null;
  /** What is right, where that is known. */
  expected: string | null;
  predicted: Count | null;
  text: string;
  state: "waiting" | "writing" | "done" | "stopped" | "failed";
  problem: string | null;
  account: Account | null;
  usage: Usage | null;
}

export interface Answers {
  answers: Answer[];
  /** What a screen reader hears of the last one. */
  news: string;
  busy: boolean;
  ask: (question: string, expected: string | null, settings: Settings[]) => Promise<void>;
  stop: () => void;
  remove: (key: number) => void;
}

export function useAnswers(api: Api, model: string, of: PictureState, onLocked: () => void): Answers {
  const [answers, setAnswers] = useState<Answer[]>([]);
  const [news, setNews] = useState("");
  const [busy, setBusy] = useState(false);
  const keys = useRef(0);
  const control = useRef<AbortController | null>(null);

  const change = useCallback((key: number, by: (answer: Answer) => Partial<Answer>) => {
    setAnswers((all) => all.map((answer) => (answer.key === key ? { ...answer, ...by(answer) } : answer)));
  }, []);

  const one = async (question: string, expected: string | null, settings: Settings, signal: AbortSignal) => {
    keys.current += 1;
    const key = keys.current;
    const picture = of.picture?.url ?? null;
    const begun: Answer = {
      key,
      question,
      picture,
      wanted: wanted(settings),
      latency: settings.mode === "auto" ? settings.latency : null,
      expected,
      predicted: null,
      text: "",
      state: "waiting",
      problem: null,
      account: null,
      usage: null,
    };
    setAnswers((all) => [...all, begun]);
    let text = "";
    const run = async (id: string | null) => {
      const request = body(model, question, id, settings);
      if (!request) {
        throw new Refused("A number is missing.", 0);
      }
      const predicted = await api.count(request, signal);
      change(key, () => ({ predicted }));
      let account: Account | null = null;
      for await (const chunk of api.chat(request, signal)) {
        const piece = chunk.choices?.[0]?.delta.content ?? "";
        text += piece;
        account = chunk.foveate ?? account;
        const { usage } = chunk;
        const whole = text;
        change(key, (answer) => ({ state: "writing", text: whole, account, usage: usage ?? answer.usage }));
      }
      change(key, () => ({ state: "done" }));
      const tokens = account?.visual_tokens;
      const with_ = picture && tokens ? ` with ${plural(tokens, "visual token")}` : "";
      setNews(`Answer${with_}: ${text || "nothing"}. It took ${time(account?.ms.total ?? Number.NaN)}.`);
    };
    try {
      await (picture ? of.withId(run) : run(null));
    } catch (error) {
      if (isAbort(error)) {
        change(key, () => ({ state: "stopped" }));
        setNews("Stopped.");
        return;
      }
      if (error instanceof Refused && error.status === 401) {
        onLocked();
      }
      change(key, () => ({ state: "failed", problem: told(error) }));
    }
  };

  const ask = async (question: string, expected: string | null, settings: Settings[]) => {
    const own = new AbortController();
    control.current = own;
    setBusy(true);
    // One behind the other, so that each takes the time that it takes alone.
    for (const each of settings) {
      if (!own.signal.aborted) {
        await one(question, expected, each, own.signal);
      }
    }
    setBusy(false);
  };
  const stop = useCallback(() => control.current?.abort(), []);
  const remove = useCallback((key: number) => setAnswers((all) => all.filter((answer) => answer.key !== key)), []);
  return { answers, news, busy, ask, stop, remove };
}
