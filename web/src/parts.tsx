// Small parts that both views use.

import type { ComponentChildren, JSX } from "preact";

import { percent } from "./format";

/** Something that went wrong, in words; read out at once. */
export function Problem({ children }: { children: ComponentChildren }): JSX.Element {
  return (
    <p class="problem" role="alert">
      {children}
    </p>
  );
}

interface NumberFieldProps {
  label: string;
  value: number;
  onChange: (value: number) => void;
  min?: number;
  max?: number;
  step?: number | "any";
  inputMode?: "decimal";
}

/** A number to write; not a number while there is none. */
export function NumberField({ label, value, onChange, min = 0, ...bounds }: NumberFieldProps): JSX.Element {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="number"
        min={min}
        {...bounds}
        value={Number.isFinite(value) ? value : ""}
        onInput={(event) => onChange(event.currentTarget.valueAsNumber)}
      />
    </label>
  );
}

export interface Share {
  name: string;
  value: number;
  /** As it is read. */
  text: string;
}

const STAGES: Record<string, string> = {
  tower: "vision tower",
  query: "question pass",
  compress: "compressor",
  project: "projector",
  prefill: "reading the prompt",
  decode: "writing the answer",
};

/** A stage of an answer in words. */
export function stageName(stage: string): string {
  return STAGES[stage] ?? stage;
}

/** Where something goes: a bar, and the same as a table for everybody. */
export function Breakdown({ shares, label }: { shares: Share[]; label: string }): JSX.Element {
  const sum = shares.reduce((total, share) => total + share.value, 0) || 1;
  return (
    <div class="breakdown">
      <div class="bar" aria-hidden="true">
        {shares.map((share, nth) => (
          <span key={share.name} class={`part part-${nth % 6}`} style={{ flexGrow: share.value / sum }} />
        ))}
      </div>
      <table>
        <caption>{label}</caption>
        <tbody>
          {shares.map((share, nth) => (
            <tr key={share.name}>
              <th scope="row">
                <span class={`dot part-${nth % 6}`} aria-hidden="true" />
                {share.name}
              </th>
              <td>{share.text}</td>
              <td>{percent(share.value / sum)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
