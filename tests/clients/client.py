"""The official `openai` client for Python, unchanged, against foveate-nano. The server's address and a picture are given."""

import asyncio
import base64
import pathlib
import sys

import openai

url, picture = sys.argv[1], pathlib.Path(sys.argv[2])
client = openai.OpenAI(base_url=url, api_key="open sesame", max_retries=0)
data_url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def ask(text, image=None, **more):
    content = [{"type": "text", "text": text}]
    if image:
        content.append({"type": "image_url", "image_url": {"url": image, "detail": "auto"}})
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    options = {"model": "foveate-nano", "temperature": 0, "max_tokens": 8} | more
    return client.chat.completions.create(messages=messages, **options)


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


assert [model.id for model in client.models.list()] == ["foveate-nano"]
assert client.models.retrieve("foveate-nano").foveate["context"] == 512

question = "How many shapes are there?"
whole = ask(question, data_url, extra_body={"visual_tokens": 4}, logprobs=True, top_logprobs=2)
text = whole.choices[0].message.content
assert text and whole.choices[0].finish_reason == "stop"
assert whole.usage.prompt_tokens_details.image_tokens == 4
assert whole.foveate["visual_tokens"] == 4 and whole.foveate["compressor"] == "quecc"
assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2

chunks = list(ask(question, data_url, extra_body={"visual_tokens": 4}, stream=True, stream_options={"include_usage": True}))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
with client.chat.completions.stream(
    model="foveate-nano", temperature=0, max_tokens=8, messages=[{"role": "user", "content": question}]
) as stream:
    final = stream.get_final_completion()
assert final.choices[0].message.content == client.chat.completions.create(
    model="foveate-nano", temperature=0, max_tokens=8, messages=[{"role": "user", "content": question}]
).choices[0].message.content

# What the client sends back of an answer is a conversation.
turns = [{"role": "user", "content": question}, whole.choices[0].message, {"role": "user", "content": "And circles?"}]
assert client.chat.completions.create(model="foveate-nano", messages=turns, max_tokens=4).choices[0].message.content is not None

file = client.files.create(file=picture, purpose="vision")
assert ask(question, file.id, extra_body={"visual_tokens": 4}).choices[0].message.content == text
assert client.files.retrieve(file.id).bytes == picture.stat().st_size
assert client.files.content(file.id).read() == picture.read_bytes()
assert [known.id for known in client.files.list()] == [file.id]
assert client.files.delete(file.id).deleted
refused(openai.NotFoundError, lambda: client.files.retrieve(file.id))

error = refused(openai.BadRequestError, lambda: ask(question, data_url, extra_body={"visual_tokens": 5}))
assert error.param == "visual_tokens" and error.body["foveate"]["ladder"]["rungs"] == [144, 36, 16, 9, 4, 1]
error = refused(openai.UnprocessableEntityError, lambda: ask(question, data_url, extra_body={"max_latency_ms": 1e-6}))
assert error.code == "latency_out_of_reach" and error.body["foveate"]["least_ms"] > 0
assert refused(openai.NotFoundError, lambda: ask(question, model="gpt")).code == "model_not_found"
assert refused(openai.BadRequestError, lambda: ask(question, "http://127.0.0.1/x.png")).code == "invalid_image"
refused(openai.BadRequestError, lambda: ask(question, tools=[{"type": "function", "function": {"name": "f"}}]))
wrong = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
refused(openai.AuthenticationError, lambda: wrong.models.list())


async def many():
    async with openai.AsyncOpenAI(base_url=url, api_key="open sesame") as other:
        messages = [{"role": "user", "content": question}]
        calls = [
            other.chat.completions.create(model="foveate-nano", messages=messages, temperature=0, max_tokens=8)
            for _ in range(32)
        ]
        return {answer.choices[0].message.content for answer in await asyncio.gather(*calls)}


assert len(asyncio.run(many())) == 1
print(f"openai {openai.__version__} for Python: fine")
