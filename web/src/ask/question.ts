// What is asked: text, picture, budget; and the body of its request.

import type { ChatBody } from "../api";
import type { Ladder, VisualTokens } from "../documents";
import { values } from "../ladder";

export type Mode = "tokens" | "auto" | "adaptive";

export interface Settings {
  mode: Mode;
  tokens: number;
  latency: number;
  length: number;
  temperature: number;
}

export function atFirst(ladder: Ladder | null): Settings {
  const offered = ladder ? values(ladder) : [];
  const mode = offered.length === 0 && ladder?.adaptive ? "adaptive" : "tokens";
  // In the middle of the ladder there is something to both sides.
  const tokens = offered[Math.floor(offered.length / 2)] ?? 1;
  return { mode, tokens, latency: 500, length: 32, temperature: 0 };
}

export function wanted(settings: Settings): VisualTokens {
  return settings.mode === "tokens" ? settings.tokens : settings.mode;
}

/** `null` where a field says no number that can be sent. */
export function body(
  model: string,
  question: string,
  picture: string | null,
  settings: Settings,
): ChatBody | null {
  const numbers = [settings.length, settings.temperature, settings.mode === "auto" ? settings.latency : 1];
  if (!numbers.every(Number.isFinite)) {
    return null;
  }
  const text = { type: "text", text: question };
  const content = picture ? [text, { type: "file", file: { file_id: picture } }] : [text];
  return {
    model,
    messages: [{ role: "user", content }],
    max_tokens: settings.length,
    temperature: settings.temperature,
    ...(picture ? { visual_tokens: wanted(settings) } : {}),
    ...(settings.mode === "auto" ? { max_latency_ms: settings.latency } : {}),
  };
}
