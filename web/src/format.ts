// Numbers as people read them.

const PREFIXES = ["", "k", "M", "G", "T", "P", "E"];

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** `1234567` as `1.23 M`, with the unit behind the prefix. */
export function scaled(value: number, unit: string): string {
  if (!Number.isFinite(value)) {
    return `– ${unit}`;
  }
  let [at, size] = [0, Math.abs(value)];
  // 999.6 would read 1000.
  while (size >= 999.5 && at < PREFIXES.length - 1) {
    size /= 1000;
    at += 1;
  }
  const number = at === 0 && Number.isInteger(value) ? String(size) : digits(size);
  return `${value < 0 ? "−" : ""}${number} ${PREFIXES[at] ?? ""}${unit}`;
}

export function flops(value: number): string {
  return scaled(value, "FLOP");
}

/** Milliseconds, or seconds from one on. */
export function time(ms: number): string {
  if (!Number.isFinite(ms)) {
    return "–";
  }
  return ms >= 999.5 ? `${digits(ms / 1000)} s` : `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [at, size] = [0, value];
  while (size >= 1023.5 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${at === 0 ? size.toFixed(0) : digits(size)} ${units[at] ?? ""}`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

export function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
