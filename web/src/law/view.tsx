// What a budget buys: `/v1/plan` with a slider.

import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { type Api, isAbort, Refused, told } from "../api";
import type { Candidate, Plan } from "../documents";
import { bytes, flops, plural, scaled, time } from "../format";
import { useLater } from "../later";
import { Breakdown, NumberField, Problem, stageName } from "../parts";
import { at, type Kind, RANGES, STEPS, stepOf, written } from "./budget";
import { Chart } from "./chart";

const COMPRESSORS = [
  "quecc",
  "token-packer",
  "mqt",
  "m3",
  "prumerge",
  "visionzip",
  "average-pooling",
  "identity",
];
const PRESETS = { "": "The server's own", reasoning: "Reasoning", ocr: "Reading text" };
/** More than anything costs: the whole frontier. */
const WITHOUT_END = "1e6TFLOP";

interface Asked {
  kind: Kind;
  step: number;
  preset: keyof typeof PRESETS;
  compressor: string;
  text: number;
  answer: number;
  /** Of a machine, for times. */
  gflops: number;
  gbytes: number;
}

const AT_FIRST: Asked = {
  kind: "work",
  step: stepOf(2e12, RANGES.work),
  preset: "",
  compressor: "quecc",
  text: 50,
  answer: 16,
  gflops: 1000,
  gbytes: 50,
};

function costOf(candidate: Candidate, kind: Kind): number {
  const { cost } = candidate;
  return { work: cost.flops, memory: cost.memory_bytes, time: cost.ms ?? Number.NaN }[kind];
}

function shownAs(kind: Kind): (value: number) => string {
  return { work: flops, memory: bytes, time }[kind];
}

interface Props {
  api: Api;
  onLocked: () => void;
}

export function LawView({ api, onLocked }: Props): JSX.Element {
  const [asked, setAsked] = useState(AT_FIRST);
  const [plan, setPlan] = useState<Plan | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const { kind } = asked;
  const range = RANGES[kind];
  const budget = at(asked.step, range);
  const [busy, setBusy] = useState(true);
  const change = (by: Partial<Asked>) => {
    setBusy(true);
    if (by.kind) {
      // What was planned for another kind of budget has none of its numbers.
      setPlan(null);
    }
    setAsked((before) => ({ ...before, ...by }));
  };

  useLater(150, [asked], (signal) => {
    const numbers = [asked.text, asked.answer, asked.gflops, asked.gbytes];
    if (!numbers.every(Number.isFinite)) {
      setBusy(false);
      return;
    }
    const request = {
      text_tokens: asked.text,
      answer_tokens: asked.answer,
      compressor: asked.compressor,
      ...(asked.preset ? { preset: asked.preset } : {}),
      ...(kind === "time"
        ? { rates: { flops_per_second: 1e9 * asked.gflops, bytes_per_second: 1e9 * asked.gbytes } }
        : {}),
    };
    const failed = (error: unknown) => {
      if (isAbort(error) || signal.aborted) {
        return;
      }
      if (error instanceof Refused && error.status === 401) {
        onLocked();
      }
      setProblem(told(error));
      // Nothing fits: the frontier still says what there is.
      if (error instanceof Refused && error.code === "nothing_fits") {
        api.plan({ ...request, budgets: [WITHOUT_END] }, signal).then(
          (whole) => {
            if (!signal.aborted) {
              setPlan({ ...whole, ranked: [], half: null, twice: null, findings: [] });
              setBusy(false);
            }
          },
          () => setBusy(false),
        );
      } else {
        setPlan(null);
        setBusy(false);
      }
    };
    api.plan({ ...request, budgets: [written(kind, budget)] }, signal).then((found) => {
      if (!signal.aborted) {
        setPlan(found);
        setProblem(null);
        setBusy(false);
      }
    }, failed);
  });

  const show = shownAs(kind);
  const { unit } = range;
  const best = plan?.ranked[0] ?? null;
  return (
    <div class="law" aria-busy={busy}>
      <section class="panel" aria-labelledby="law-title">
        <h2 id="law-title">What a budget buys</h2>
        <p class="hint">
          How large a language model, and how many visual tokens, give the least error within a budget, by the law that
          is fitted to published measurements or that this server was started with.
        </p>
        <div class="row controls">
          <Choice label="Budget of" value={kind} onChange={(to) => change({ kind: to as Kind, step: STEPS / 2 })}>
            {[
              ["work", "work (FLOP)"],
              ["memory", "memory"],
              ["time", "time"],
            ]}
          </Choice>
          <Choice
            label="Task"
            value={asked.preset}
            onChange={(to) => change({ preset: to as keyof typeof PRESETS })}
          >
            {Object.entries(PRESETS)}
          </Choice>
          <Choice label="Compressor" value={asked.compressor} onChange={(to) => change({ compressor: to })}>
            {COMPRESSORS.map((name) => [name, name])}
          </Choice>
          <NumberField label="Text tokens" value={asked.text} onChange={(text) => change({ text })} />
          <NumberField label="Tokens of the answer" value={asked.answer} onChange={(answer) => change({ answer })} />
          {kind === "time" && (
            <>
              <NumberField label="GFLOP/s of the machine" value={asked.gflops} onChange={(to) => change({ gflops: to })} />
              <NumberField label="GB/s of its memory" value={asked.gbytes} onChange={(to) => change({ gbytes: to })} />
            </>
          )}
        </div>
        <div class="slider">
          <label for="budget">
            {range.name} <output for="budget">{show(budget)}</output>
          </label>
          <input
            id="budget"
            type="range"
            min={0}
            max={STEPS}
            step={1}
            value={asked.step}
            aria-valuetext={show(budget)}
            onInput={(event) => change({ step: event.currentTarget.valueAsNumber })}
          />
        </div>
        {problem && <Problem>{problem}</Problem>}
        <p class="visually-hidden" aria-live="polite">
          {best && `${bought(best)}, predicted error ${best.error.toFixed(3)}`}
        </p>
      </section>
      {plan && (
        <div class="two">
          <section class="panel" aria-labelledby="frontier-title">
            <h2 id="frontier-title">The frontier</h2>
            <Chart
              frontier={frontier(plan, kind).map(({ x, error }) => ({ x: x / unit.of, error }))}
              best={best && { x: costOf(best, kind) / unit.of, error: best.error }}
              budget={budget / unit.of}
              range={[range.least / unit.of, range.most / unit.of]}
              label={`${range.name}, ${unit.name}`}
              summary={summary(plan, best, kind)}
            />
            <p class="hint">
              The line is the least predicted error at every cost; the dashed line is the budget, the large dot what it
              buys.
            </p>
          </section>
          <section class="panel" aria-labelledby="best-title">
            <h2 id="best-title">{best ? bought(best) : "Nothing"}</h2>
            {best && (
              <>
                <p class="error">
                  Predicted error <strong>{best.error.toFixed(3)}</strong>
                  {best.ci95 && ` (95 % interval ${best.ci95[0].toFixed(3)} to ${best.ci95[1].toFixed(3)})`}
                </p>
                <Breakdown
                  label={kind === "time" ? "Where the time goes" : "Where the work goes"}
                  shares={best.cost.stages.map((stage) => {
                    const value = kind === "time" ? (stage.ms ?? 0) : stage.flops;
                    return { name: stageName(stage.stage), value, text: kind === "time" ? time(value) : flops(value) };
                  })}
                />
                <p class="hint">
                  Half of it buys {plan.half ? bought(plan.half) : "nothing"}; twice as much{" "}
                  {plan.twice ? bought(plan.twice) : "nothing"}.
                </p>
              </>
            )}
          </section>
          {plan.ranked.length > 0 && (
            <section class="panel" aria-labelledby="ranked-title">
              <h2 id="ranked-title">The best within the budget</h2>
              <Ranked candidates={plan.ranked.slice(0, 8)} />
            </section>
          )}
          {plan.findings.length > 0 && (
            <section class="panel" aria-labelledby="findings-title">
              <h2 id="findings-title">What to know first</h2>
              <ul>
                {plan.findings.map((finding) => (
                  <li key={finding}>{finding}</li>
                ))}
              </ul>
            </section>
          )}
        </div>
      )}
    </div>
  );
}

function bought(candidate: Candidate): string {
  return `${candidate.model} with ${plural(candidate.visual_tokens, "visual token")}`;
}

/** Of the frontier by work the part that falls with the cost that is looked at. */
function frontier(plan: Plan, kind: Kind): { x: number; error: number }[] {
  // What is within the budget, too: its frontier by memory or time is not the one by work.
  const all = [...plan.frontier, ...plan.ranked].map((candidate) => ({
    x: costOf(candidate, kind),
    error: candidate.error,
  }));
  const points = all.filter((point) => Number.isFinite(point.x)).sort((one, other) => one.x - other.x || one.error - other.error);
  let least = Number.POSITIVE_INFINITY;
  return points.filter((point) => {
    const better = point.error < least;
    least = Math.min(least, point.error);
    return better;
  });
}

function summary(plan: Plan, best: Candidate | null, kind: Kind): string {
  const points = frontier(plan, kind);
  const [first, last] = [points[0], points[points.length - 1]];
  if (!first || !last) {
    return "An empty chart.";
  }
  const show = shownAs(kind);
  const ends = `Predicted error falls from ${first.error.toFixed(3)} at ${show(first.x)} to ${last.error.toFixed(3)} at ${show(last.x)}.`;
  return best ? `${ends} The budget buys ${bought(best)}, error ${best.error.toFixed(3)}.` : ends;
}

function Ranked({ candidates }: { candidates: Candidate[] }): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="The best within the budget, as a table">
      <table class="ranked">
        <thead>
          <tr>
            <th scope="col">model</th>
            <th scope="col">parameters</th>
            <th scope="col">V</th>
            <th scope="col">error</th>
            <th scope="col">work</th>
            <th scope="col">memory</th>
          </tr>
        </thead>
        <tbody>
          {candidates.map((candidate) => (
            <tr key={`${candidate.model} ${candidate.visual_tokens}`}>
              <th scope="row">{candidate.model}</th>
              <td>{scaled(candidate.params, "")}</td>
              <td>{candidate.visual_tokens}</td>
              <td>{candidate.error.toFixed(3)}</td>
              <td>{flops(candidate.cost.flops)}</td>
              <td>{bytes(candidate.cost.memory_bytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  children: string[][];
}

function Choice({ label, value, onChange, children }: ChoiceProps): JSX.Element {
  return (
    <label class="field">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {children.map(([of, name]) => (
          <option key={of} value={of}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
