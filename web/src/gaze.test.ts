import { expect, test } from "vitest";

import type { LookPicture } from "./documents";
import { centre, ofAll, ofToken, owners } from "./gaze";

// Two tokens on 2 x 3 patches.
const PICTURE: LookPicture = {
  visual_tokens: 2,
  frame: { left: 0, top: 0, width: 1, height: 1 },
  kept: null,
  weights: [
    [0.64, 0.16, 0, 0.2, 0, 0],
    [0, 0.25, 0.5, 0, 0.25, 0],
  ],
};

test("a token glows as its weights, the largest in full", () => {
  expect(Array.from(ofToken(PICTURE, 0), (part) => Number(part.toFixed(3)))).toEqual([1, 0.5, 0, 0.559, 0, 0]);
  expect(Math.max(...ofToken(PICTURE, 1))).toBe(1);
  expect(ofToken(PICTURE, 9).length).toBe(0);
});

test("all together glow as their sum, and nothing where none looks", () => {
  const glow = ofAll(PICTURE);
  expect(glow[0]).toBe(1);
  expect(glow[1]).toBeCloseTo(Math.sqrt(0.41 / 0.64), 6);
  expect(glow[5]).toBe(0);
});

test("patches belong to the token that gives them most", () => {
  expect(owners(PICTURE).slice(0, 5)).toEqual([0, 1, 1, 0, 1]);
});

test("what a token looks at most is told by row and column", () => {
  const look = { compressor: "quecc", grid: [2, 3] as [number, number], pictures: [PICTURE] };
  expect(centre(look, PICTURE, 0)).toEqual([0, 0, 0.64]);
  expect(centre(look, PICTURE, 1)).toEqual([0, 2, 0.5]);
});
