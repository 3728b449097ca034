import { expect, test } from "vitest";

import { bytes, flops, percent, plural, scaled, time } from "./format";

test("numbers keep three digits and never read a thousand of their unit", () => {
  expect(flops(366_033_858_560)).toBe("366 GFLOP");
  expect(flops(1_234_567)).toBe("1.23 MFLOP");
  expect(flops(999_600)).toBe("1.00 MFLOP");
  expect(flops(999_400)).toBe("999 kFLOP");
  expect(flops(12)).toBe("12 FLOP");
  expect(scaled(-2500, "")).toBe("−2.50 k");
  expect(scaled(Number.NaN, "FLOP")).toBe("– FLOP");
});

test("times, sizes, shares", () => {
  expect([0.04, 9.94, 12.4, 999.6, 61_000].map(time)).toEqual(["0.0 ms", "9.9 ms", "12 ms", "1.00 s", "61.0 s"]);
  expect(time(Number.NaN)).toBe("–");
  expect([512, 1023.6, 16_176_586_752].map(bytes)).toEqual(["512 B", "1.00 KiB", "15.1 GiB"]);
  expect([0.002, 0.0996, 1].map(percent)).toEqual(["0.2 %", "10 %", "100 %"]);
  expect([plural(1, "token"), plural(0, "token")]).toEqual(["1 token", "0 tokens"]);
});
