"""Two replicas of one thread behind nginx with deploy/nginx.conf: what it promises, and what it costs.

    python bench/peers/serve/replicas.py --foveate target/release/foveate --gguf SmolLM2-135M-Instruct.Q4_1.gguf \\
        --out bench/results/DATE-serve-replicas

The checks run on foveate-nano and on fixtures/models/llava-1.5, whose answers are as long as one likes. The numbers compare one
process of two threads with two of one thread behind nginx, in turns. Wants nginx (Debian: nginx-light); Python's standard library
otherwise.
"""

import contextlib
import http.client
import json
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

import mix
import page
from client import CHAT, ask, get
from crowd import crowd
from load import summary
from processes import Foveate, Nginx

NANO = "foveate-nano"
LONG = pathlib.Path(__file__).resolve().parents[3] / "fixtures" / "models" / "llava-1.5"
SEEN = ('foveate_cache_hits_total{cache="tokens"}', 'foveate_cache_misses_total{cache="tokens"}')
WRITING = 'foveate_jobs{state="writing"}'
REFUSED = f'foveate_requests_total{{route="{CHAT}",status="429"}}'
BODY_BYTES = 32 << 20


class Failed(Exception):
    """A promise that was not kept."""


def expect(fine, told):
    if not fine:
        raise Failed(told)


@contextlib.contextmanager
def house(options, model, flags=()):
    """Two replicas and nginx in front of them."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foveate-nginx-")))
        replicas = [stack.enter_context(Foveate(options.foveate, model, 1, options=flags)) for _ in range(2)]
        yield stack.enter_context(Nginx(options.nginx, folder, replicas)), replicas


def long_answer(key, **more):
    """A request that keeps a replica busy for a while."""
    return mix.request("llava-1.5", "Tell me.", 450, **more).body, {"X-Image-Key": key}


def affinity(options):
    """Each picture is looked at by one replica, once."""
    with house(options, NANO) as (nginx, replicas):
        def counts():
            return [[replica.count(line) for line in SEEN] for replica in replicas]

        at = [0, 0]
        for seed in range(12):
            request = mix.request(NANO, "How many?", 8, mix.picture(seed))
            before = counts()
            answers = [ask(nginx.url, request.body, request.headers) for _ in range(4)]
            expect(all(answer.fine for answer in answers), f"picture {seed}: {answers}")
            moved = [[now - then for now, then in zip(*pair, strict=True)] for pair in zip(counts(), before, strict=True)]
            expect(sorted(moved) == [[0, 0], [3, 1]], f"picture {seed}: hits and misses of the replicas moved by {moved}")
            at[moved.index([3, 1])] += 1
        expect(min(at) > 0, f"all pictures went to one replica: {at}")
        # Without a key the client's address decides: everything of this machine goes to one.
        before = counts()
        for seed in range(12, 20):
            expect(ask(nginx.url, mix.request(NANO, "How many?", 8, mix.picture(seed)).body).fine, "no answer without a key")
        moved = [now[1] - then[1] for now, then in zip(counts(), before, strict=True)]
        expect(sorted(moved) == [0, 8], f"without a key the replicas looked at {moved}")
        return f"12 pictures, 4 questions each: one look and three hits, {at[0]} pictures at one replica, {at[1]} at the other; " \
            "8 without a key: all at one"


def streaming(options):
    """The first chunk is here while the answer is still being written."""
    with house(options, LONG) as (nginx, replicas):
        seen = []
        body, headers = long_answer("k", stream=True)
        answer = ask(nginx.url, body, headers, seen=lambda: seen.extend(replica.count(WRITING) for replica in replicas))
        expect(answer.fine, f"{answer}")
        expect(sorted(seen) == [0, 1], f"at the first chunk the replicas were writing {seen} answers")
        return f"first of {answer.tokens} tokens after {1e3 * answer.first:.0f} ms, last after {1e3 * answer.total:.0f}; " \
            "at the first chunk its replica was still writing"


def full(options):
    """What one replica refuses the other one does; when both are full, the client is told."""
    with house(options, LONG, ("--parallel", "1", "--queue", "0")) as (nginx, replicas):
        body, headers = long_answer("k")
        expected = ask(nginx.url, body, headers)
        expect(expected.fine, f"{expected}")
        answers, told = [], [replica.count(REFUSED) for replica in replicas]

        def client():
            answers.append(ask(nginx.url, body, headers))

        def busy():
            return [replica.count(WRITING) + replica.count('foveate_jobs{state="waiting"}') for replica in replicas]

        clients = [threading.Thread(target=client) for _ in range(2)]
        clients[0].start()
        while max(busy()) < 1:
            pass
        clients[1].start()
        while min(busy()) < 1 and not answers:
            pass
        expect(not answers, f"an answer ended before both replicas were busy: {answers}")
        third = ask(nginx.url, body, headers)
        for thread in clients:
            thread.join()
        expect(all(answer.text == expected.text for answer in answers), f"{answers}")
        expect(third.status == 429 and third.whole and third.retry_after, f"with both full: {third}")
        refused = [replica.count(REFUSED) - then for replica, then in zip(replicas, told, strict=True)]
        expect(sorted(refused) == [1, 2], f"the replicas refused {refused}")
        # Neither is kept out for what it refused.
        expect(ask(nginx.url, body, headers).fine, "after a 429 no answer")
        return f"the second request went on to the other replica, the third got 429 with `Retry-After: {third.retry_after}`; the replicas " \
            f"refused {refused[0]:.0f} and {refused[1]:.0f} times"


def stopped(options):
    """One replica gets SIGTERM under load, ends, and comes back: nobody notices."""
    requests = mix.mixed(NANO, 48, 32)
    with house(options, NANO, ("--queue", "256")) as (nginx, replicas):
        goes = replicas[0]
        port = int(goes.url.rpartition(":")[2])
        ended = []

        def between():
            time.sleep(options.seconds / 3)
            goes.signal(signal.SIGTERM)
            ended.append(goes.process.wait(30))
            time.sleep(options.seconds / 3)
            with Foveate(options.foveate, NANO, 1, port) as back:
                time.sleep(options.seconds / 3)
                ended.append(back.count('foveate_stage_seconds_count{stage="total"}'))

        found = crowd(nginx.url, requests, 16, 4 * options.seconds / 3, between=between)
        expect(not found.failed(), f"{len(found.failed())} failed, such as {found.failed()[:2]}")
        expect(ended[0] == 0, f"the replica ended with {ended[0]}")
        expect(goes.lines[-1].get("whole") is True, f"its last line is {goes.lines[-1]}")
        expect(ended[1] > 0, "the replica that came back got nothing")
        return f"{len(found.fine()):,} answers to 16 clients, {found.statuses().get('429', 0)} times 429, none failed; " \
            f"the replica ended whole, and got requests again when it was back"


def errors(options):
    """What nginx says itself reads like an error of foveate's."""
    with house(options, NANO) as (nginx, replicas):
        expect(get(nginx.url, "/metrics")[0] == 404, "the numbers of one replica are public")
        too_large = refused_body(nginx.url, BODY_BYTES + 1)
        expect(too_large.status == 413 and too_large.whole, f"a body of too many bytes: {too_large}")
        whole = refused_body(replicas[0].url, BODY_BYTES + 1)
        expect(json.loads(whole.told) == json.loads(too_large.told), f"{whole.told} and {too_large.told}")
        for replica in replicas:
            replica.process.terminate()
            replica.process.wait(30)
        gone = ask(nginx.url, mix.request(NANO, "How many?", 8).body)
        expect(gone.status == 503 and gone.whole and gone.retry_after, f"without a replica: {gone}")
        return "413 and 503 as documents of the same form, `/metrics` hidden"


def refused_body(server, length):
    """The answer to a body that is announced and not sent."""
    from client import Answer, is_error

    url = urllib.parse.urlsplit(server)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    connection.putrequest("POST", CHAT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    reply = connection.getresponse()
    told = reply.read().decode()
    connection.close()
    return Answer(reply.status, told=told, whole=is_error(told))


def numbers(options, model, requests):
    """One process of two threads and two of one behind nginx, in turns; the others paused meanwhile."""
    rounds = {"one process, two threads": [], "two of one thread behind nginx": []}
    with house(options, model, ("--queue", "256")) as (nginx, replicas), Foveate(
        options.foveate, model, 2, options=("--queue", "256")
    ) as one:
        for _ in range(options.rounds):
            for name, server, others in (
                ("one process, two threads", one, replicas), ("two of one thread behind nginx", nginx, [one]),
            ):
                for other in others:
                    other.pause()
                found = crowd(server.url, requests, options.clients, options.seconds)
                for other in others:
                    other.resume()
                expect(not found.failed(), f"{name}: {found.failed()[:2]}")
                rounds[name].append(summary(found))
    return rounds


CHECKS = {
    "equal pictures at one replica": affinity,
    "streams unbuffered": streaming,
    "429 of one goes to the other": full,
    "SIGTERM of one under load": stopped,
    "nginx's own errors": errors,
}


def main():
    parser = page.parser(__doc__)
    parser.add_argument("--nginx", default="/usr/sbin/nginx")
    parser.add_argument("--gguf", type=pathlib.Path, help="a language model to compare with, too")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=12, help="of each turn")
    parser.add_argument("--rounds", type=int, default=2, help="0: the checks alone")
    parser.add_argument("--new-tokens", type=int, default=64, help="of the language model")
    options = page.arguments(parser)
    result = page.head(options)
    told = subprocess.run([options.nginx, "-v"], capture_output=True, text=True, check=True)
    result["versions"]["nginx"] = told.stderr.strip().rpartition("/")[2]
    result["checks"] = {}
    for name, check in CHECKS.items():
        try:
            result["checks"][name] = {"kept": True, "told": check(options)}
        except Failed as failed:
            result["checks"][name] = {"kept": False, "told": str(failed)}
    result["numbers"] = {}
    if options.rounds:
        result["numbers"]["foveate-nano, text and pictures"] = numbers(options, NANO, mix.mixed(NANO, 48, 32))
        if options.gguf:
            requests = mix.mixed(options.gguf.name, 24, options.new_tokens, images=False)
            result["numbers"][f"{options.gguf.stem}, {options.new_tokens} new tokens"] = numbers(options, options.gguf, requests)
    page.write(options, result, markdown(result, options))
    if not all(check["kept"] for check in result["checks"].values()):
        raise SystemExit(1)


def markdown(result, options):
    yield from page.opening("Two replicas of foveate behind nginx", result)
    yield "nginx runs with `deploy/nginx.conf`, in which the script changes the ports alone, and one worker process."
    yield ""
    rows = [(name, "yes" if of["kept"] else "**no**", of["told"]) for name, of in result["checks"].items()]
    yield from page.table(["promise", "kept", "seen"], rows)
    for name, rounds in result["numbers"].items():
        yield ""
        yield f"## {name}"
        yield ""
        yield f"{options.clients} clients, {options.seconds:g} s a turn, in turns; half of the requests are streams. Times in ms."
        yield ""
        rows = [
            (
                which, number + 1, of["requests_per_second"], of["tokens_per_second"], of["first_token_ms"]["p50"], of["first_token_ms"]["p95"],
                of["total_ms"]["p50"], of["total_ms"]["p95"], of["client_cores"],
            )
            for which, turns in rounds.items() for number, of in enumerate(turns)
        ]
        columns = ["", "turn", "requests/s", "tokens/s", "first p50", "first p95", "whole p50", "whole p95", "clients' cores"]
        yield from page.table(columns, rows)
        one, two = ([of["requests_per_second"] for of in turns] for turns in rounds.values())
        yield ""
        yield f"Requests a second of two replicas to those of one process: {sum(two) / sum(one):.2f}."


if __name__ == "__main__":
    main()
