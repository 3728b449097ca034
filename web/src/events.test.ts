import { expect, test } from "vitest";

import { dataOf, events } from "./events";

function stream(pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(control) {
      for (const piece of pieces) {
        control.enqueue(piece);
      }
      control.close();
    },
  });
}

const TEXT = ': waiting\n\ndata: {"a": "é\u{1f441}"}\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\ndata:[DONE]\n\n';
const DATA = ['{"a": "é\u{1f441}"}', "one\ntwo", "[DONE]"];

test("events are the same wherever the network cuts", async () => {
  const bytes = new TextEncoder().encode(TEXT);
  for (let size = 1; size <= bytes.length; size += 1) {
    const pieces = [];
    for (let at = 0; at < bytes.length; at += size) {
      pieces.push(bytes.slice(at, at + size));
    }
    const found = [];
    for await (const data of events(stream(pieces))) {
      found.push(data);
    }
    expect(found).toEqual(DATA);
  }
});

test("a stream that ends without its last empty line still told its event; a comment is none", async () => {
  const found = [];
  for await (const data of events(stream([new TextEncoder().encode("data: x")]))) {
    found.push(data);
  }
  expect(found).toEqual(["x"]);
  expect(dataOf(": still here")).toBeNull();
  expect(dataOf("data:")).toBe("");
});

test("whoever stops listening ends the stream", async () => {
  let cancelled = false;
  const endless = new ReadableStream<Uint8Array>({
    pull: (control) => control.enqueue(new TextEncoder().encode("data: x\n\n")),
    cancel: () => {
      cancelled = true;
    },
  });
  for await (const data of events(endless)) {
    expect(data).toBe("x");
    break;
  }
  expect(cancelled).toBe(true);
});
