// Server-sent events as OpenAI's API uses them: the data of each, whatever pieces the network makes of the bytes.

/** The data of the events of a stream. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const blocks = rest.split(/\r\n\r\n|\n\n|\r\r/);
      rest = done ? "" : (blocks.pop() ?? "");
      for (const block of blocks) {
        const data = dataOf(block);
        if (data !== null) {
          yield data;
        }
      }
      if (done) {
        return;
      }
    }
  } finally {
    // Also when the reader of this stops early: the server then ends its work.
    await reader.cancel().catch(() => undefined);
  }
}

/** The data of one event; `null` for a comment, which keeps a connection open. */
export function dataOf(block: string): string | null {
  const lines = block.split(/\r\n|\n|\r/).filter((line) => line.startsWith("data:"));
  return lines.length === 0 ? null : lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
}
