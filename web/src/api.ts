// The server, as the page talks to it. Every failure becomes a `Refused` whose message can be shown as it is.

import type { Chunk, Count, Example, Look, Model, Plan } from "./documents";
import { events } from "./events";

export class Refused extends Error {
  constructor(
    message: string,
    /** The HTTP status; 0 where there was no reply. */
    readonly status: number,
    readonly code: string | null = null,
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

export const GONE = "The server does not answer. Is it still running?";

/** What is wrong, in words. */
export function told(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** A conversation of one question. */
export interface ChatBody {
  model: string;
  messages: unknown[];
  max_tokens: number;
  temperature: number;
  visual_tokens?: number | "auto" | "adaptive";
  max_latency_ms?: number;
}

export class Api {
  /** In memory alone: it ends with the page. */
  key = "";

  async models(): Promise<Model[]> {
    const list = await this.json<{ data: Model[] }>("v1/models");
    return list.data;
  }

  async examples(): Promise<Example[]> {
    return this.json("page/examples.json");
  }

  async count(body: ChatBody, signal: AbortSignal): Promise<Count> {
    return this.json("v1/count", body, signal);
  }

  async look(body: object, signal: AbortSignal): Promise<Look> {
    return this.json("v1/look", body, signal);
  }

  async plan(body: object, signal?: AbortSignal): Promise<Plan> {
    return this.json("v1/plan", body, signal);
  }

  /** The answer in chunks. */
  async *chat(body: ChatBody, signal: AbortSignal): AsyncGenerator<Chunk> {
    const streaming = { ...body, stream: true, stream_options: { include_usage: true } };
    const reply = await this.fetch("v1/chat/completions", this.post(streaming, signal));
    if (!reply.body) {
      throw new Refused(GONE, 0);
    }
    try {
      for await (const data of events(reply.body)) {
        if (data === "[DONE]") {
          return;
        }
        const chunk = JSON.parse(data) as Chunk;
        if (chunk.error) {
          throw new Refused(chunk.error.message, reply.status);
        }
        yield chunk;
      }
    } catch (error) {
      if (error instanceof Refused || isAbort(error)) {
        throw error;
      }
      throw new Refused(GONE, 0);
    }
    throw new Refused("The answer was cut short.", 0);
  }

  /** Uploads a picture; its id stands for it in requests. */
  async upload(picture: Blob, name: string, signal: AbortSignal): Promise<string> {
    const form = new FormData();
    form.append("purpose", "vision");
    form.append("file", picture, name);
    const reply = await this.fetch("v1/files", { method: "POST", body: form, signal });
    return ((await reply.json()) as { id: string }).id;
  }

  /** Deletes an uploaded picture; one that is gone already is no matter. */
  async forget(id: string): Promise<void> {
    try {
      await this.fetch(`v1/files/${id}`, { method: "DELETE", keepalive: true });
    } catch {
      // Its time on the server is bounded.
    }
  }

  private async json<T>(path: string, body?: object, signal?: AbortSignal): Promise<T> {
    const reply = await this.fetch(path, body ? this.post(body, signal) : { signal: signal ?? null });
    return (await reply.json()) as T;
  }

  private post(body: object, signal?: AbortSignal): RequestInit {
    const headers = { "Content-Type": "application/json" };
    return { method: "POST", headers, body: JSON.stringify(body), signal: signal ?? null };
  }

  private async fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.key) {
      headers.set("Authorization", `Bearer ${this.key}`);
    }
    let reply: Response;
    try {
      reply = await fetch(path, { ...init, headers });
    } catch (error) {
      throw isAbort(error) ? error : new Refused(GONE, 0);
    }
    if (reply.ok) {
      return reply;
    }
    throw await refusal(reply);
  }
}

/** The server's own words; a proxy in front of it may have none. */
async function refusal(reply: Response): Promise<Refused> {
  const { status } = reply;
  try {
    const { error } = (await reply.json()) as {
      error: { message: string; code: string | null; param: string | null };
    };
    let { message } = error;
    const wait = reply.headers.get("retry-after");
    if (status === 429 && wait) {
      message = `${message}; try again in ${wait} s`;
    }
    return new Refused(message, status, error.code, error.param);
  } catch {
    return new Refused(`The server refused with status ${status} ${reply.statusText}`.trim(), status);
  }
}
