"""Load on a server with OpenAI's API: so many clients at once, for so long, each with one request after another.

    python load.py http://127.0.0.1:8080/v1 --model NAME --clients 16 --requests 4 --new-tokens 128
    python load.py … --clients 64 --seconds 120 --image photo.png --check

Prints one JSON line: tokens a second, times to the first token and to the last (p50, p95), statuses, and with --check how many
answers differ from those of a client that was alone. Standard library only.
"""

import argparse
import base64
import http.client
import json
import pathlib
import threading
import time
import urllib.parse
from collections import Counter

WORDS = "river stone window garden paper bridge candle forest mirror harbour winter engine".split()


def body(arguments, nth):
    """The `nth` request: prompts of several lengths, some about a picture."""
    text = f"Write about the {WORDS[nth % len(WORDS)]}" + " and the stone" * (nth % 7) + "."
    content = [{"type": "text", "text": text}]
    if arguments.image and nth % 2:
        data = base64.b64encode(arguments.image.read_bytes()).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    request = {
        "model": arguments.model, "temperature": 0, "max_tokens": arguments.new_tokens, "stream": True,
        "messages": [{"role": "user", "content": content if arguments.image else text}],
    }
    return json.dumps(request).encode()


def ask(arguments, request):
    """Status, text, chunks of text, seconds to the first and to the last of them."""
    url = urllib.parse.urlsplit(arguments.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=300)
    started = time.perf_counter()
    connection.request("POST", url.path + "/chat/completions", request, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    text, pieces, first = [], 0, None
    if reply.status == 200:
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            choices = json.loads(line[6:])["choices"]
            piece = choices[0].get("delta", {}).get("content") if choices else None
            if piece:
                first = first or time.perf_counter() - started
                text.append(piece)
                pieces += 1
    else:
        reply.read()
    connection.close()
    return reply.status, "".join(text), pieces, first, time.perf_counter() - started


def share(values, part):
    values = sorted(values)
    return round(1e3 * values[min(len(values) - 1, int(part * len(values)))], 1) if values else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument("--seconds", type=float, help="instead of a number of requests")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--image", type=pathlib.Path)
    parser.add_argument("--different", type=int, default=24, help="different requests")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    requests = [body(arguments, nth) for nth in range(arguments.different)]
    alone = [ask(arguments, request)[1] for request in requests] if arguments.check else None

    done, lock = [], threading.Lock()
    started = time.perf_counter()
    end = started + arguments.seconds if arguments.seconds else None

    def client(which):
        nth = which
        while time.perf_counter() < end if end else nth < which + arguments.requests * arguments.clients:
            at = nth % len(requests)
            answer = ask(arguments, requests[at])
            with lock:
                done.append((at, answer))
            if answer[0] == 429:
                time.sleep(0.05)
            nth += arguments.clients

    threads = [threading.Thread(target=client, args=(which,)) for which in range(arguments.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    fine = [(at, answer) for at, answer in done if answer[0] == 200]
    print(json.dumps({
        "clients": arguments.clients,
        "seconds": round(seconds, 2),
        "requests": len(done),
        "statuses": Counter(str(answer[0]) for _, answer in done),
        "tokens_per_second": round(sum(answer[2] for _, answer in fine) / seconds, 1),
        "first_token_ms": {"p50": share([answer[3] for _, answer in fine if answer[3]], 0.5),
                           "p95": share([answer[3] for _, answer in fine if answer[3]], 0.95)},
        "total_ms": {"p50": share([answer[4] for _, answer in fine], 0.5),
                     "p95": share([answer[4] for _, answer in fine], 0.95)},
        "different_answers": sum(answer[1] != alone[at] for at, answer in fine) if alone else None,
    }))


if __name__ == "__main__":
    main()
