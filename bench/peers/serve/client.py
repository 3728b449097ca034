"""One request to a server with OpenAI's API, and what came of it. Standard library only."""

import http.client
import json
import time
import urllib.parse
from dataclasses import dataclass

PATIENCE = 300  # seconds
CHAT = "/v1/chat/completions"


@dataclass
class Answer:
    status: int  # 0 where no HTTP came back
    text: str = ""
    tokens: int = 0  # as the server counts them, else pieces of text
    first: float | None = None  # seconds to the first piece of text of a stream
    total: float = 0.0  # seconds to the last byte
    whole: bool = False  # an answer with its end, or an error with its message
    retry_after: str | None = None
    told: str = ""  # of an error

    @property
    def fine(self):
        return self.status == 200 and self.whole


def ask(server, body, headers=None, seen=None):
    """Sends `body`, a chat request as bytes, to `server` (http://host:port); `seen` is called once, behind the first piece."""
    url = urllib.parse.urlsplit(server)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    started = time.perf_counter()
    try:
        connection.request("POST", CHAT, body, {"Content-Type": "application/json"} | (headers or {}))
        reply = connection.getresponse()
        if reply.status != 200:
            told = reply.read().decode(errors="replace")
            answer = Answer(reply.status, told=told, whole=is_error(told), retry_after=reply.getheader("Retry-After"))
        elif reply.getheader("Content-Type", "").startswith("text/event-stream"):
            answer = streamed(reply, started, seen)
        else:
            document = json.loads(reply.read())
            text = document["choices"][0]["message"]["content"]
            answer = Answer(200, text, document["usage"]["completion_tokens"], whole=True)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        answer = Answer(0, told=f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    answer.total = time.perf_counter() - started
    return answer


def streamed(reply, started, seen):
    answer, pieces, counted = Answer(200), [], None
    for line in reply:
        if line.startswith(b"data: [DONE]"):
            answer.whole = True
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            answer.told = line.decode(errors="replace")
            break
        usage = chunk.get("usage")
        counted = usage["completion_tokens"] if usage else counted
        choices = chunk["choices"]
        piece = choices[0].get("delta", {}).get("content") if choices else None
        if piece:
            if answer.first is None:
                answer.first = time.perf_counter() - started
                if seen:
                    seen()
            pieces.append(piece)
    answer.text = "".join(pieces)
    answer.tokens = len(pieces) if counted is None else counted
    return answer


def is_error(text):
    """Whether it is an error as OpenAI's clients read it."""
    try:
        return isinstance(json.loads(text)["error"]["message"], str)
    except (ValueError, KeyError, TypeError):
        return False


def get(server, path):
    """Status and text of a document."""
    url = urllib.parse.urlsplit(server)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def metric(server, line):
    """The value behind a name of the metrics; 0 where there is none."""
    for found in get(server, "/metrics")[1].splitlines():
        name, _, value = found.rpartition(" ")
        if name == line:
            return float(value)
    return 0.0
