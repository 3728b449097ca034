"""foveate serve beside llama-cpp-python's server, and beside itself with one client, on one GGUF file and the same texts.

    python bench/peers/serve/compare.py --foveate target/release/foveate --gguf SmolLM2-135M-Instruct.Q4_1.gguf \\
        --out bench/results/DATE-serve-llama

Needs requirements.txt. Servers take turns, the other one paused meanwhile: foveate, llama.cpp, foveate, llama.cpp. All requests of a
turn are streams; greedy; so many new tokens at most, fewer where the model ends earlier.
"""

import json
import pathlib
import statistics
import urllib.request

import mix
import page
from client import CHAT, ask
from crowd import Crowd, crowd, share
from load import summary
from processes import Foveate, Llama

FOVEATE, LLAMA = "foveate", "llama.cpp"
LEAST_GAIN = 3.0  # of batched answers over one after another
CHECKED = 8  # answers of a turn


def texts(options, turn):
    """New in every turn, the same for both: what was read before helps with the beginning alone, which all prompts share."""
    return [f"Note {turn * options.requests + nth}. {mix.text(nth)}" for nth in range(options.requests)]


def requests_of(options, turn):
    return [mix.request(options.gguf.name, text, options.new_tokens, stream=True) for text in texts(options, turn)]


def turns(servers, options, clients, first):
    """Every server's turn, as often as asked; turn `first` and those behind it say what is asked."""
    found = {name: [] for name in servers}
    for number in range(options.rounds):
        requests = requests_of(options, first + number)
        for name, server in servers.items():
            for other in servers.values():
                if other is not server:
                    other.pause()
            before = server.processor_seconds()
            # As many requests for each number of clients: a turn of one client is not a longer one.
            turn = crowd(server.url, requests, clients, each=max(1, options.requests // clients))
            cores = (server.processor_seconds() - before) / turn.seconds
            for other in servers.values():
                other.resume()
            if turn.failed() or len(turn.fine()) != len(turn.answers):
                raise SystemExit(f"{name}, {clients} clients: {turn.statuses()}, {turn.failed()[:2]}")
            found[name].append((turn, cores))
    return found


def pooled(measured):
    """All turns of one server as one."""
    whole = Crowd(seconds=sum(turn.seconds for turn, _ in measured))
    whole.answers = [answer for turn, _ in measured for answer in turn.answers]
    whole.client_cores = statistics.mean(turn.client_cores for turn, _ in measured)
    return whole


def differing(server, measured, options, first):
    """How many of the first answers of each turn are others than those that the server gives now, with one client."""
    different = 0
    for number, (turn, _) in enumerate(measured):
        requests = requests_of(options, first + number)[:CHECKED]
        alone = [ask(server.url, request.body).text for request in requests]
        different += sum(answer.text != alone[at] for at, answer in turn.answers if at < len(alone))
    return different


def main():
    parser = page.parser(__doc__)
    parser.add_argument("--gguf", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--requests", type=int, default=16, help="of a turn, all clients together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=128)
    options = page.arguments(parser)
    result = page.head(options, ("llama-cpp-python",))
    result |= {"llama_settings": Llama.SETTINGS, "crowds": {}}
    with Foveate(options.foveate, options.gguf, options.threads) as foveate, Llama(options.gguf, options.threads) as llama:
        servers = {FOVEATE: foveate, LLAMA: llama}
        result["prompt_tokens"] = {name: prompt_tokens(server, options) for name, server in servers.items()}
        throughput = {}
        for at, clients in enumerate(options.clients):
            first = 1 + at * options.rounds
            measured = turns(servers, options, clients, first)
            whole = {name: pooled(of) for name, of in measured.items()}
            throughput[clients] = {name: of.tokens_per_second() for name, of in whole.items()}
            result["crowds"][clients] = {
                name: {
                    "turns": [summary(turn) | {"server_cores": round(cores, 2)} for turn, cores in measured[name]],
                    "all": summary(whole[name]),
                    "first_ms": [round(ms, 1) for ms in whole[name].first_ms()],
                    "total_ms": [round(ms, 1) for ms in whole[name].total_ms()],
                    "answers": {turn_at: answer.text for turn_at, answer in sorted(measured[name][0][0].answers, key=lambda pair: pair[0])[:2]},
                }
                for name in servers
            }
            result["crowds"][clients][FOVEATE]["different_answers"] = differing(foveate, measured[FOVEATE], options, first)
    least, most = min(options.clients), max(options.clients)
    gains = {name: throughput[most][name] / throughput[least][name] for name in (FOVEATE, LLAMA)}
    result["gain"] = {name: round(gain, 2) for name, gain in gains.items()}
    page.write(options, result, markdown(result, options))
    if gains[FOVEATE] < LEAST_GAIN or any(of[FOVEATE]["different_answers"] for of in result["crowds"].values()):
        raise SystemExit(1)


def prompt_tokens(server, options):
    """What the server makes of a text with its template, which also wakes it up."""
    body = mix.request(options.gguf.name, texts(options, 0)[0], 1).body
    request = urllib.request.Request(server.url + CHAT, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["usage"]["prompt_tokens"]


def markdown(result, options):
    yield from page.opening("foveate serve beside llama.cpp's server", result)
    settings = ", ".join(f"{name} {value}" for name, value in result["llama_settings"].items() if name not in ("verbose", "model_alias"))
    yield f"{options.gguf.name}, {options.threads} threads each, greedy, at most {options.new_tokens} new tokens, streams, {options.requests} requests " \
        f"a turn, {options.rounds} turns each in turns, the other server paused meanwhile."
    yield ""
    yield f"- llama.cpp is llama-cpp-python's server, which answers one request after another; the others wait. Settings: {settings}."
    prompts = result["prompt_tokens"]
    yield f"- The same text with the model's template is {prompts[FOVEATE]} tokens for foveate and {prompts[LLAMA]} for llama.cpp."
    yield "- Tokens are pieces of the streams. Where the two round differently their greedy answers part, and may differ in length."
    yield ""
    least, most = min(options.clients), max(options.clients)
    met = "met" if result["gain"][FOVEATE] >= LEAST_GAIN else "**missed**"
    yield f"**{most} clients against {least}: foveate {result['gain'][FOVEATE]} × the tokens a second (goal ≥ {LEAST_GAIN:g} ×: {met}), " \
        f"llama.cpp {result['gain'][LLAMA]} ×.**"
    for clients, of in result["crowds"].items():
        yield ""
        yield f"## {clients} client{'s' if clients > 1 else ''}"
        yield ""
        rows = []
        for name, found in of.items():
            every, cores = found["all"], [turn["server_cores"] for turn in found["turns"]]
            rows.append((
                name, every["tokens_per_second"], ", ".join(str(turn["tokens_per_second"]) for turn in found["turns"]),
                every["first_token_ms"]["p50"], every["first_token_ms"]["p95"], every["total_ms"]["p50"], every["total_ms"]["p95"],
                ", ".join(map(str, cores)),
            ))
        columns = ["", "tokens/s", "by turn", "first p50", "first p95", "whole p50", "whole p95", "cores"]
        yield from page.table(columns, rows)
        ratio = of[FOVEATE]["all"]["tokens_per_second"] / of[LLAMA]["all"]["tokens_per_second"]
        first = [share(of[name]["first_ms"], 0.5) for name in (FOVEATE, LLAMA)]
        yield ""
        yield f"foveate writes {ratio:.2f} × the tokens a second; its median first token comes after {first[0] / first[1]:.3f} of the time. " \
            f"Of {min(CHECKED, options.requests) * options.rounds} answers of foveate, asked again by one client, " \
            f"{of[FOVEATE]['different_answers']} differ."


if __name__ == "__main__":
    main()
