// The frontier: the least predicted error at every cost, and where the budget ends.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";

export interface Point {
  x: number;
  error: number;
}

interface Props {
  frontier: Point[];
  /** What the budget buys. */
  best: Point | null;
  budget: number;
  /** The least and the most that the slider reaches, in the unit of `label`, as all others. */
  range: [number, number];
  label: string;
  summary: string;
}

const HEIGHT = 300;

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function Chart({ frontier, best, budget, range: [least, most], label, summary }: Props): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const line = useRef(budget);
  const [theme, setTheme] = useState(0);
  line.current = budget;

  // Canvases do not follow the theme by themselves.
  useEffect(() => {
    const change = () => setTheme((count) => count + 1);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", change);
    window.addEventListener("themechange", change);
    return () => {
      system.removeEventListener("change", change);
      window.removeEventListener("themechange", change);
    };
  }, []);

  useEffect(() => {
    const parent = place.current;
    if (!parent) {
      return;
    }
    const [text, grid, own, accent] = ["--soft", "--line", "--blue", "--amber"].map(colour);
    const axis = { stroke: text ?? "", grid: { stroke: grid ?? "", width: 1 }, ticks: { stroke: grid ?? "" } };
    const options: uPlot.Options = {
      width: parent.clientWidth || 320,
      height: HEIGHT,
      scales: {
        x: {
          time: false,
          distr: 3,
          log: 10,
          range: (_, first, last) => [0.9 * Math.min(first, least), 1.1 * Math.max(last, most)],
        },
        y: {},
      },
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      axes: [
        {
          ...axis,
          label,
          // By itself uPlot lets powers of ten through alone.
          filter: (_, splits) => splits.map((split) => (marked(split) ? split : null)),
          values: (_, splits) => splits.map((split) => (split === null ? "" : String(Number(split.toPrecision(3))))),
        },
        { ...axis, label: "predicted error", size: 56, values: (_, splits) => splits.map((split) => split.toFixed(2)) },
      ],
      series: [
        {},
        { stroke: own ?? "", width: 2, points: { show: true, size: 5, fill: own ?? "" } },
        { stroke: accent ?? "", points: { show: true, size: 13, fill: accent ?? "" } },
      ],
      hooks: {
        draw: [
          (self) => {
            const left = self.valToPos(line.current, "x", true);
            const { ctx, bbox } = self;
            if (left < bbox.left || left > bbox.left + bbox.width) {
              return;
            }
            ctx.save();
            ctx.strokeStyle = accent ?? "";
            ctx.lineWidth = 2 * devicePixelRatio;
            ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
            ctx.beginPath();
            ctx.moveTo(left, bbox.top);
            ctx.lineTo(left, bbox.top + bbox.height);
            ctx.stroke();
            ctx.restore();
          },
        ],
      },
    };
    const made = new uPlot(options, [[1], [null], [null]], parent);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: parent.clientWidth || 320, height: HEIGHT }));
    watch.observe(parent);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [label, least, most, theme]);

  useEffect(() => {
    const points = [...frontier];
    // The best within the budget lies on the frontier or is drawn beside it.
    const xs = [...new Set([...points.map((point) => point.x), ...(best ? [best.x] : [])])].sort((a, b) => a - b);
    const errors = new Map(points.map((point) => [point.x, point.error]));
    const rest = xs.map((value) => errors.get(value) ?? null);
    const own = xs.map((value) => (best?.x === value ? best.error : null));
    plot.current?.setData([xs, rest, own]);
  }, [frontier, best, budget, label, least, most, theme]);

  return <div class="chart" ref={place} role="img" aria-label={summary} />;
}

/** 1, 2 and 5 of every decade: more would run into each other. */
function marked(value: number): boolean {
  const lead = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
  return [1, 2, 5].some((mark) => Math.abs(lead - mark) < 0.01);
}
