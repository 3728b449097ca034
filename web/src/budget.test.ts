import { expect, test } from "vitest";

import { atFirst, body } from "./ask/question";
import { at, RANGES, STEPS, stepOf, written } from "./law/budget";

test("steps of a slider are even in the logarithm, and found again", () => {
  for (const range of Object.values(RANGES)) {
    expect(at(0, range)).toBeCloseTo(range.least, 6);
    expect(at(STEPS, range) / range.most).toBeCloseTo(1, 9);
    for (const step of [0, 1, 77, STEPS]) {
      expect(stepOf(at(step, range), range)).toBe(step);
    }
    expect(at(101, range) / at(100, range)).toBeCloseTo(at(11, range) / at(10, range), 9);
  }
  expect([stepOf(1, RANGES.work), stepOf(1e99, RANGES.work)]).toEqual([0, STEPS]);
});

test("budgets are written as the server reads them", () => {
  expect(written("work", 2e12)).toBe("2000GFLOP");
  expect(written("work", 2e13)).toBe("20000GFLOP");
  expect(written("memory", 2 ** 36)).toBe("65540MiB");
  expect(written("memory", 6 * 2 ** 30)).toBe("6144MiB");
  expect(written("time", 812.34)).toBe("812.3ms");
});

test("a request says what was chosen and nothing else", () => {
  const ladder = { rungs: [16, 4, 1], range: null, adaptive: false };
  const first = atFirst(ladder);
  expect([first.mode, first.tokens]).toEqual(["tokens", 4]);
  expect(body("m", "What?", "file-1", first)).toMatchObject({ visual_tokens: 4, max_tokens: 32 });
  expect(body("m", "What?", "file-1", first)).not.toHaveProperty("max_latency_ms");
  const auto = { ...first, mode: "auto" as const, latency: 80 };
  expect(body("m", "What?", "file-1", auto)).toMatchObject({ visual_tokens: "auto", max_latency_ms: 80 });
  expect(body("m", "What?", null, first)).not.toHaveProperty("visual_tokens");
  expect(body("m", "What?", "file-1", { ...auto, latency: Number.NaN })).toBeNull();
  expect(atFirst({ rungs: [], range: null, adaptive: true }).mode).toBe("adaptive");
});
