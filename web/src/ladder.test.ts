import { expect, test } from "vitest";

import { thinned, values } from "./ladder";

test("rungs are sorted, ranges are every number", () => {
  expect(values({ rungs: [16, 4, 1], range: null, adaptive: false })).toEqual([1, 4, 16]);
  const range = values({ rungs: [], range: [1, 256], adaptive: true });
  expect([range.length, range[0], range[255]]).toEqual([256, 1, 256]);
  expect(values({ rungs: [], range: null, adaptive: true })).toEqual([]);
});

test("long lists are thinned as foveate compare thins them", () => {
  const windows = [1, 4, 9, 16, 36, 64, 144, 576];
  expect(thinned(windows)).toEqual(windows);
  expect(thinned(values({ rungs: [], range: [1, 256], adaptive: false }))).toEqual([1, 4, 16, 64, 256]);
  expect(thinned(values({ rungs: [], range: [2, 100], adaptive: true }))).toEqual([2, 4, 16, 64, 100]);
});
