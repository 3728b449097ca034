// How many visual tokens, or how much time.

import type { JSX } from "preact";

import type { Ladder } from "../documents";
import { plural } from "../format";
import { thinned, values } from "../ladder";
import { NumberField } from "../parts";
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
        <NumberField
          label="The answer should be there within (milliseconds)"
          step="any"
          inputMode="decimal"
          value={settings.latency}
          onChange={(latency) => onChange({ latency })}
        />
      )}
    </fieldset>
  );
}
