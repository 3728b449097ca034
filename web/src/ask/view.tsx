// Asking: a picture, a question, a budget; answers side by side.

import type { JSX } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";

import type { Api } from "../api";
import type { Example, Model } from "../documents";
import { thinned, values } from "../ladder";
import { NumberField, Problem } from "../parts";
import { Budget } from "./budget";
import { Card } from "./card";
import { Cost, useCount } from "./cost";
import { PicturePanel } from "./picture";
import { atFirst, body, type Settings } from "./question";
import { Tokens } from "./tokens";
import { useAnswers } from "./use-answers";
import { useLook } from "./use-look";
import { usePicture } from "./use-picture";

interface Props {
  api: Api;
  model: Model;
  onLocked: () => void;
}

export function AskView({ api, model, onLocked }: Props): JSX.Element {
  const { ladder } = model.foveate;
  const [settings, setSettings] = useState<Settings>(() => atFirst(ladder));
  const [question, setQuestion] = useState("");
  const [examples, setExamples] = useState<Example[]>([]);
  const [example, setExample] = useState<Example | null>(null);
  const [shown, setShown] = useState(false);
  const [chosen, setChosen] = useState<number | null>(null);
  const [pointed, setPointed] = useState<number | null | undefined>(undefined);
  const of = usePicture(api, onLocked);
  const asking = useAnswers(api, model.id, of, onLocked);
  const change = useCallback((by: Partial<Settings>) => setSettings((before) => ({ ...before, ...by })), []);

  useEffect(() => {
    // A page without examples is a page.
    if (ladder) {
      api.examples().then(setExamples, () => undefined);
    }
  }, [api, ladder]);

  const text = question.trim();
  const write = (picture: string | null) => (text ? body(model.id, text, picture, settings) : null);
  const counted = useCount(api, of, write, [text, settings, model.id], onLocked);
  const tokens =
    settings.mode === "tokens"
      ? settings.tokens
      : settings.mode === "adaptive"
        ? settings.mode
        : (counted.count?.visual_tokens ?? null);
  const { look, problem: lookProblem } = useLook(api, of, shown, model.id, text, tokens);
  // Another picture or number of tokens has other tokens.
  useEffect(() => setChosen(null), [of.picture, tokens]);

  const { choose } = of;
  const onOwn = useCallback(
    (blob: Blob, name: string) => {
      setExample(null);
      choose(blob, name);
    },
    [choose],
  );
  const onExample = (picked: Example) => {
    setExample(picked);
    setQuestion(picked.questions[0]?.text ?? "");
    choose(decoded(picked.picture), picked.name);
  };
  const expected = example?.questions.find((known) => known.text === text)?.answer ?? null;
  const ready = text !== "" && !of.uploading && !asking.busy;
  const rungs = ladder && of.picture ? thinned(values(ladder)) : [];

  const submit = (event: Event) => {
    event.preventDefault();
    if (ready) {
      void asking.ask(text, expected, [settings]);
    }
  };
  const compare = () =>
    asking.ask(
      text,
      expected,
      rungs.map((rung) => ({ ...settings, mode: "tokens", tokens: rung })),
    );
  return (
    <div class="columns">
      <form class="left" noValidate onSubmit={submit}>
        {ladder && (
          <PicturePanel
            of={of}
            examples={examples}
            onExample={onExample}
            onOwn={onOwn}
            look={shown ? look : null}
            token={pointed === undefined ? chosen : pointed}
          />
        )}
        {ladder && of.picture && (
          <section class="panel" aria-labelledby="look-title">
            <h2 id="look-title" class="visually-hidden">
              Where the tokens look
            </h2>
            <label class="choice">
              <input type="checkbox" checked={shown} onChange={(event) => setShown(event.currentTarget.checked)} />
              Show where each visual token looks
            </label>
            {shown && lookProblem && <Problem>{lookProblem}</Problem>}
            {shown && look && <Tokens look={look} chosen={chosen} onChosen={setChosen} onPointed={setPointed} />}
          </section>
        )}
        <section class="panel" aria-labelledby="question-title">
          <h2 id="question-title">Question</h2>
          <label class="visually-hidden" for="question">
            Question
          </label>
          <textarea
            id="question"
            rows={2}
            value={question}
            placeholder={ladder ? "What is in the picture?" : "Ask something"}
            onInput={(event) => setQuestion(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
                submit(event);
              }
            }}
          />
          {example && (
            <div class="row suggestions">
              {example.questions.map((known) => (
                <button key={known.text} type="button" class="small" onClick={() => setQuestion(known.text)}>
                  {known.text}
                </button>
              ))}
            </div>
          )}
          {ladder && of.picture && <Budget ladder={ladder} settings={settings} onChange={change} />}
          <details>
            <summary>How it answers</summary>
            <div class="row">
              <NumberField
                label="Longest answer (tokens)"
                min={1}
                step={1}
                value={settings.length}
                onChange={(length) => change({ length })}
              />
              <NumberField
                label="Temperature"
                max={2}
                step={0.1}
                value={settings.temperature}
                onChange={(temperature) => change({ temperature })}
              />
            </div>
          </details>
          <Cost {...counted} />
          <div class="row actions">
            <button type="submit" class="primary" disabled={!ready}>
              Ask
            </button>
            {rungs.length > 1 && (
              <button type="button" disabled={!ready} onClick={() => void compare()}>
                Ask with {rungs.join(", ")} tokens
              </button>
            )}
          </div>
        </section>
      </form>
      <section class="right" aria-labelledby="answers-title">
        <h2 id="answers-title">Answers</h2>
        {asking.answers.length === 0 && (
          <p class="hint">Answers appear here side by side, each with what it took.</p>
        )}
        {asking.answers.length > 1 && (
          <p class="hint">
            What the server knows from before is not computed again: the first answer about a picture pays for looking at
            it.
          </p>
        )}
        <div class="cards">
          {asking.answers.map((answer) => (
            <Card
              key={answer.key}
              answer={answer}
              onStop={asking.stop}
              onRemove={() => asking.remove(answer.key)}
            />
          ))}
        </div>
        <p class="visually-hidden" aria-live="polite">
          {asking.news}
        </p>
      </section>
    </div>
  );
}

/** The bytes of a data URL; the page's policy lets nothing fetch it. */
function decoded(url: string): Blob {
  const [head, data] = url.split(",", 2);
  const bytes = Uint8Array.from(atob(data ?? ""), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: head?.slice("data:".length).split(";")[0] ?? "" });
}
