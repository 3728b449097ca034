// A budget as a slider has it, and as the server reads it. A slider's steps are even in the logarithm.

export type Kind = "work" | "memory" | "time";

export const STEPS = 200;

interface Range {
  name: string;
  /** FLOP, bytes or milliseconds: what the models of the catalogue need with a tower of today. */
  least: number;
  most: number;
  /** What a chart counts in. */
  unit: { name: string; of: number };
}

export const RANGES: Record<Kind, Range> = {
  work: { name: "Work for a question", least: 4e11, most: 2e13, unit: { name: "TFLOP", of: 1e12 } },
  memory: { name: "Memory", least: 2 ** 30, most: 2 ** 36, unit: { name: "GiB", of: 2 ** 30 } },
  time: { name: "Time for a question", least: 50, most: 20_000, unit: { name: "seconds", of: 1000 } },
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

/** As `/v1/plan` reads it: four digits, never an exponent. */
export function written(kind: Kind, value: number): string {
  const rounded = (number: number) => Number(number.toPrecision(4));
  switch (kind) {
    case "work":
      return `${rounded(value / 1e9)}GFLOP`;
    case "memory":
      return `${rounded(value / 2 ** 20)}MiB`;
    case "time":
      return `${rounded(value)}ms`;
  }
}
