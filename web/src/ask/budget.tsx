// How many visual tokens, or how much time.

import type { JSX } from "preact";

import type { Ladder } from "../documents";
import { plural } from "../format";
import { thinned, values } from "../ladder";
import type { Mode, Settings } from "./question";

interface Props {
  ladder: Ladder;
  settings: Settings;
  onChange: (change: Partial<Settings>) => void;
}

export function Budget({ ladder, settings, onChange }: Props): JSX.Element {
  const offered = values(ladder);
  const at = Math.max(0, offered.indexOf(settings.tokens));
  const marks = thinned(offered);
  const modes: [Mode, string][] = [
    ...(offered.length > 0 ? ([["tokens", "A number"], ["auto", "Auto, in a time"]] as [Mode, string][]) : []),
    ...(ladder.adaptive ? ([["adaptive", "As the picture needs"]] as [Mode, string][]) : []),
  ];
  return (
    <fieldset class="budget">
      <legend>Visual tokens</legend>
      <div class="row modes">
        {modes.map(([mode, name]) => (
          <label key={mode} class="choice">
            <input
              type="radio"
              name="mode"
              value={mode}
              checked={settings.mode === mode}
              onChange={() => onChange({ mode })}
            />
            {name}
          </label>
        ))}
      </div>
      {settings.mode === "tokens" && (
        <div class="slider">
          <label for="rung">
            Tokens of the picture <output for="rung">{settings.tokens}</output>
          </label>
          <input
            id="rung"
            type="range"
            min={0}
            max={Math.max(0, offered.length - 1)}
            step={1}
            value={at}
            disabled={offered.length < 2}
            aria-valuetext={plural(settings.tokens, "visual token")}
            onInput={(event) => onChange({ tokens: offered[event.currentTarget.valueAsNumber] ?? settings.tokens })}
          />
          <div class="marks" aria-hidden="true">
            {marks.map((number) => (
              <span key={number}>{number}</span>
            ))}
          </div>
        </div>
      )}
      {settings.mode === "auto" && (
        <div class="field">
          <label for="latency">The answer should be there within (milliseconds)</label>
          <input
            id="latency"
            type="number"
            min="0"
            step="any"
            inputMode="decimal"
            value={Number.isFinite(settings.latency) ? settings.latency : ""}
            onInput={(event) => onChange({ latency: event.currentTarget.valueAsNumber })}
          />
        </div>
      )}
    </fieldset>
  );
}
