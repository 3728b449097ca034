// A budget as a slider has it, and as the server reads it. A slider's steps are even in the logarithm.

export type Kind = "work" | "memory" | "time";

export const STEPS = 200;

interface Range {
  name: string;
  /** In the unit that the charts use. */
  least: number;
  most: number;
}

/** Until the frontier says what there is. */
export const RANGES: Record<Kind, Range> = {
  work: { name: "Work for a question", least: 4e11, most: 2e13 },
  memory: { name: "Memory", least: 2 ** 30, most: 2 ** 36 },
  time: { name: "Time for a question", least: 50, most: 20_000 },
};

/** The value at a step of a slider from `least` to `most`. */
export function at(step: number, { least, most }: { least: number; most: number }): number {
  return least * (most / least) ** (step / STEPS);
}

/** The step nearest to a value. */
export function stepOf(value: number, { least, most }: { least: number; most: number }): number {
  const step = (STEPS * Math.log(value / least)) / Math.log(most / least);
  return Math.min(STEPS, Math.max(0, Math.round(step)));
}

/** As `/v1/plan` reads it. */
export function written(kind: Kind, value: number): string {
  switch (kind) {
    case "work":
      return `${(value / 1e9).toPrecision(4)}GFLOP`;
    case "memory":
      return `${(value / 2 ** 20).toPrecision(4)}MiB`;
    case "time":
      return `${value.toPrecision(4)}ms`;
  }
}
