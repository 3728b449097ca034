// The official `openai` client for Node, unchanged, against foveate-nano. The server's address and a picture are given.

import assert from "node:assert/strict";
import fs from "node:fs";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const [url, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "open sesame", maxRetries: 0 });
const dataUrl = "data:image/png;base64," + fs.readFileSync(picture).toString("base64");
const question = "How many shapes are there?";

function ask(image, more = {}) {
  const content = [{ type: "text", text: question }];
  if (image) content.push({ type: "image_url", image_url: { url: image } });
  const messages = [{ role: "user", content }];
  return client.chat.completions.create({ model: "foveate-nano", temperature: 0, max_tokens: 8, messages, ...more });
}

const models = await client.models.list();
assert.deepEqual(models.data.map((model) => model.id), ["foveate-nano"]);

const whole = await ask(dataUrl, { visual_tokens: 4 });
const text = whole.choices[0].message.content;
assert.ok(text.length > 0);
assert.equal(whole.usage.prompt_tokens_details.image_tokens, 4);
assert.equal(whole.foveate.visual_tokens, 4);

let streamed = "";
let usage = null;
for await (const chunk of await ask(dataUrl, { visual_tokens: 4, stream: true, stream_options: { include_usage: true } })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(streamed, text);
assert.deepEqual(usage.total_tokens, whole.usage.total_tokens);

const file = await client.files.create({ file: fs.createReadStream(picture), purpose: "vision" });
assert.equal((await ask(file.id, { visual_tokens: 4 })).choices[0].message.content, text);
const content = Buffer.from(await (await client.files.content(file.id)).arrayBuffer());
assert.ok(content.equals(fs.readFileSync(picture)));
assert.ok((await client.files.delete(file.id)).deleted);

await assert.rejects(ask(dataUrl, { visual_tokens: 5 }), (error) => {
  assert.ok(error instanceof OpenAI.BadRequestError);
  assert.equal(error.param, "visual_tokens");
  assert.deepEqual(error.error.foveate.ladder.rungs, [144, 36, 16, 9, 4, 1]);
  return true;
});
await assert.rejects(ask(dataUrl, { max_latency_ms: 1e-6 }), OpenAI.UnprocessableEntityError);
await assert.rejects(ask(file.id), OpenAI.NotFoundError);
await assert.rejects(new OpenAI({ baseURL: url, apiKey: "wrong", maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);

// One that is left in the middle.
const stream = await ask(dataUrl, { stream: true });
for await (const _ of stream) break;
assert.equal((await ask(dataUrl, { visual_tokens: 4 })).choices[0].message.content, text);
console.log(`openai ${VERSION} for Node: fine`);
