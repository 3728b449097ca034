// Where tokens look: what is drawn over a picture. Lightness carries the weight, so that no colour vision is needed.

import type { Look, LookPicture } from "./documents";

/** A patch's part of the glow, 0 to 1. */
export type Glow = Float32Array;

/** The glow of one token: its weights beside the largest of them; the root lifts what is small. */
export function ofToken(picture: LookPicture, token: number): Glow {
  return lifted(picture.weights[token] ?? []);
}

/** The glow of all tokens together: how much of them each patch is. */
export function ofAll(picture: LookPicture): Glow {
  const sums = new Array<number>(picture.weights[0]?.length ?? 0).fill(0);
  for (const row of picture.weights) {
    row.forEach((weight, patch) => {
      sums[patch] = (sums[patch] ?? 0) + weight;
    });
  }
  return lifted(sums);
}

function lifted(weights: number[]): Glow {
  const most = Math.max(...weights, Number.MIN_VALUE);
  return Float32Array.from(weights, (weight) => Math.sqrt(Math.max(weight, 0) / most));
}

/** For each patch the token that gives it the largest weight. */
export function owners(picture: LookPicture): number[] {
  const patches = picture.weights[0]?.length ?? 0;
  return Array.from({ length: patches }, (_, patch) => {
    let [best, most] = [0, Number.NEGATIVE_INFINITY];
    picture.weights.forEach((row, token) => {
      const weight = row[patch] ?? 0;
      if (weight > most) {
        [best, most] = [token, weight];
      }
    });
    return best;
  });
}

/** The patch that a token looks at most: [row, column, share of its weight]. */
export function centre(look: Look, picture: LookPicture, token: number): [number, number, number] {
  const row = picture.weights[token] ?? [];
  const most = Math.max(...row);
  const patch = Math.max(0, row.indexOf(most));
  const columns = look.grid[1];
  return [Math.floor(patch / columns), patch % columns, most];
}

const DARK = 0.68;
const AMBER = "255, 190, 40";

/** Draws over a canvas of the picture's shape. Of one token its weights; of all (`null`) the sum, and the borders between them. */
export function draw(canvas: HTMLCanvasElement, look: Look, picture: LookPicture, token: number | null): void {
  const context = canvas.getContext("2d");
  if (!context) {
    return;
  }
  const [rows, columns] = look.grid;
  const { width, height } = canvas;
  const { frame } = picture;
  const glow = token === null ? ofAll(picture) : ofToken(picture, token);
  const x = (column: number) => Math.round((frame.left + (column / columns) * frame.width) * width);
  const y = (row: number) => Math.round((frame.top + (row / rows) * frame.height) * height);
  context.clearRect(0, 0, width, height);
  // What the tower did not see stays as dark as what no token looks at.
  context.fillStyle = `rgba(10, 12, 16, ${DARK})`;
  context.fillRect(0, 0, width, height);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const part = glow[row * columns + column] ?? 0;
      const place = [x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row)] as const;
      context.clearRect(...place);
      context.fillStyle = `rgba(10, 12, 16, ${DARK * (1 - part)})`;
      context.fillRect(...place);
      context.fillStyle = `rgba(${AMBER}, ${0.42 * part})`;
      context.fillRect(...place);
    }
  }
  const line = Math.max(1, Math.round(width / 320));
  context.lineWidth = line;
  context.strokeStyle = "rgba(255, 255, 255, 0.85)";
  if (token === null) {
    borders(context, owners(picture), [rows, columns], x, y);
  } else {
    const kept = picture.kept?.[token];
    if (kept !== null && kept !== undefined) {
      const [row, column] = [Math.floor(kept / columns), kept % columns];
      context.strokeRect(x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row));
    }
  }
}

/** Lines between patches that belong to different tokens. */
function borders(
  context: CanvasRenderingContext2D,
  of: number[],
  [rows, columns]: [number, number],
  x: (column: number) => number,
  y: (row: number) => number,
): void {
  context.beginPath();
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const own = of[row * columns + column];
      if (column + 1 < columns && of[row * columns + column + 1] !== own) {
        context.moveTo(x(column + 1), y(row));
        context.lineTo(x(column + 1), y(row + 1));
      }
      if (row + 1 < rows && of[(row + 1) * columns + column] !== own) {
        context.moveTo(x(column), y(row + 1));
        context.lineTo(x(column + 1), y(row + 1));
      }
    }
  }
  context.stroke();
}
