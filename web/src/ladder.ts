// The numbers of visual tokens that a model offers, as a slider and a row of questions want them.

import type { Ladder } from "./documents";

/** Most numbers that are asked about side by side. */
const SIDE_BY_SIDE = 8;

/** All numbers, smallest first; none where only the image decides. */
export function values(ladder: Ladder): number[] {
  if (ladder.range) {
    const [first, last] = ladder.range;
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, nth) => first + nth);
  }
  return [...ladder.rungs].sort((one, other) => one - other);
}

/** All of a short list; of a long one its ends and the powers of four, as `foveate compare` has it. */
export function thinned(numbers: number[]): number[] {
  if (numbers.length <= SIDE_BY_SIDE) {
    return numbers;
  }
  const isPowerOfFour = (number: number) => Number.isInteger(Math.log2(number) / 2);
  const ends = [numbers[0], numbers[numbers.length - 1]];
  return numbers.filter((number) => ends.includes(number) || isPowerOfFour(number));
}
