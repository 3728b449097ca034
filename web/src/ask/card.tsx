// An answer beside the others.

import type { JSX } from "preact";

import { flops, plural, time } from "../format";
import { Problem } from "../parts";
import { Figure } from "./cost";
import type { Answer } from "./use-answers";

interface Props {
  answer: Answer;
  onStop: () => void;
  onRemove: () => void;
}

/** How much of the picture was read. */
function heading(answer: Answer): string {
  const made = answer.account?.visual_tokens ?? answer.predicted?.visual_tokens ?? null;
  if (!answer.picture) {
    return "Without a picture";
  }
  const number = typeof answer.wanted === "number" ? answer.wanted : made;
  const tokens = number === null ? "Visual tokens" : plural(number, "visual token");
  switch (answer.wanted) {
    case "auto":
      return `${tokens}, within ${answer.latency} ms`;
    case "adaptive":
      return `${answer.usage?.prompt_tokens_details.image_tokens ?? "Some"} visual tokens, adaptive`;
    default:
      return tokens;
  }
}

export function Card({ answer, onStop, onRemove }: Props): JSX.Element {
  const { account, usage, predicted, state } = answer;
  const running = state === "waiting" || state === "writing";
  return (
    <article class="panel card" aria-label={`${heading(answer)}: ${answer.question}`} aria-busy={running}>
      <header>
        {answer.picture && <img src={answer.picture} alt="" width="44" height="44" />}
        <div>
          <h3>{heading(answer)}</h3>
          <p class="asked">{answer.question}</p>
        </div>
        {running ? (
          <button type="button" class="small" onClick={onStop}>
            Stop
          </button>
        ) : (
          <button type="button" class="small" aria-label="Remove this answer" onClick={onRemove}>
            ✕
          </button>
        )}
      </header>
      {state === "failed" ? (
        <Problem>{answer.problem}</Problem>
      ) : (
        <p class={`text${running ? " running" : ""}`}>
          {answer.text || (state === "waiting" ? "…" : state === "stopped" ? "" : "(an empty answer)")}
          {state === "stopped" && <em> stopped</em>}
        </p>
      )}
      {answer.expected !== null && state !== "failed" && <p class="hint">Right would be: {answer.expected}</p>}
      {account && (
        <dl class="figures">
          <Figure name="time" value={time(account.ms.total)} />
          <Figure name="first token" value={time(account.ms.first_token)} />
          <Figure name="work" value={flops(account.flops)} />
          {usage && (
            <>
              <Figure name="image tokens" value={String(usage.prompt_tokens_details.image_tokens)} />
              <Figure name="text tokens" value={String(usage.prompt_tokens_details.text_tokens)} />
              <Figure name="new tokens" value={String(usage.completion_tokens)} />
            </>
          )}
        </dl>
      )}
      {predicted && predicted.predicted_ms !== null && (
        <p class="hint">
          Predicted: {time(predicted.predicted_ms)} and {flops(predicted.flops_at_most)} at most
          {usage && usage.prompt_tokens_details.cached_tokens > 0
            ? `; ${plural(usage.prompt_tokens_details.cached_tokens, "token")} known from before`
            : ""}
        </p>
      )}
    </article>
  );
}
