"""Many clients for a long time: no failure but 429, answers as of a client alone, memory flat.

    python bench/peers/serve/soak.py --foveate target/release/foveate --clients 64 --seconds 120 --out bench/results/DATE-serve-soak

foveate-nano, text and pictures, single documents and streams. Memory is sampled once a second; its slope is that of a line through
the samples of the second half. Standard library only.
"""

import time

import mix
import page
from client import ask
from crowd import crowd
from load import summary
from processes import Foveate

MODEL = "foveate-nano"
WARM = 0.5  # of the time, before memory counts: caches fill


def slope(samples):
    """Bytes a second of the line through (seconds, bytes), by least squares."""
    count = len(samples)
    mean = [sum(values) / count for values in zip(*samples, strict=True)]
    spread = sum((at - mean[0]) ** 2 for at, _ in samples)
    return sum((at - mean[0]) * (held - mean[1]) for at, held in samples) / spread if spread else 0.0


def main():
    parser = page.parser(__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--different", type=int, default=96, help="different requests")
    parser.add_argument("--pictures", type=int, default=48, help="different pictures")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--most-growth", type=float, default=16.0, help="MiB a minute in the second half that are still flat")
    options = page.arguments(parser)
    result = page.head(options)
    requests = mix.mixed(MODEL, options.different, options.new_tokens, pictures=options.pictures)
    with Foveate(options.foveate, MODEL, options.threads) as server:
        alone = [ask(server.url, request.body) for request in requests]
        samples, started = [], time.perf_counter()

        def watch():
            while time.perf_counter() - started < options.seconds:
                samples.append((time.perf_counter() - started, server.resident()))
                time.sleep(min(1.0, options.seconds / 20))

        before = server.processor_seconds()
        found = crowd(server.url, requests, options.clients, options.seconds, between=watch)
        cores = (server.processor_seconds() - before) / found.seconds
        # Equal answers also when the crowd has gone.
        after = [ask(server.url, request.body) for request in requests]
    fine = [(at, answer) for at, answer in found.answers if answer.fine]
    late = [sample for sample in samples if sample[0] >= WARM * options.seconds]
    growth = 60 * slope(late) / 2**20
    result |= summary(found) | {
        "clients": options.clients,
        "server_cores": round(cores, 2),
        "alone_failed": sum(not answer.fine for answer in [*alone, *after]),
        "different_answers": sum(answer.text != alone[at].text for at, answer in fine),
        "different_afterwards": sum(one.text != other.text for one, other in zip(alone, after, strict=True)),
        "told": sorted({answer.told for answer in found.failed()})[:5],
        "resident_mib": [(round(at, 1), round(held / 2**20, 1)) for at, held in samples],
        "growth_mib_per_minute": round(growth, 2),
    }
    met = {
        "no failure but 429": not found.failed() and not result["alone_failed"],
        "answers as of a client alone": not result["different_answers"] and not result["different_afterwards"],
        f"growth of at most {options.most_growth:g} MiB a minute": growth <= options.most_growth,
    }
    result["met"] = met
    page.write(options, result, markdown(result, options))
    if not all(met.values()):
        raise SystemExit(1)


def markdown(result, options):
    yield from page.opening("foveate serve under 64 clients" if options.clients == 64 else "foveate serve under load", result)
    yield f"foveate-nano, {options.threads} threads, {options.clients} clients for {result['seconds']:.0f} s, {options.different} different " \
        f"requests, half of them about one of {options.pictures} pictures, half as streams; defaults otherwise (16 at once, 64 wait)."
    yield ""
    yield from page.table(["goal", ""], [(goal, "met" if met else "**missed**") for goal, met in result["met"].items()])
    yield ""
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(result["statuses"].items()))
    held = [mib for _, mib in result["resident_mib"]]
    half = [mib for at, mib in result["resident_mib"] if at >= WARM * options.seconds]
    first, total = result["first_token_ms"], result["total_ms"]
    yield from page.table(["", ""], [
        ("requests by status", statuses),
        ("failed (neither answered nor 429)", result["failed"]),
        ("answers unlike those of a client alone", result["different_answers"]),
        ("of the requests asked again afterwards", result["different_afterwards"]),
        ("requests a second", result["requests_per_second"]),
        ("first token of streams, p50 and p95", f"{first['p50']} and {first['p95']} ms"),
        ("whole answer, p50 and p95", f"{total['p50']} and {total['p95']} ms"),
        ("anonymous resident memory, first, least and most", f"{held[0]}, {min(held)}, {max(held)} MiB"),
        ("in the second half, least and most", f"{min(half)}, {max(half)} MiB"),
        ("slope of the second half", f"{result['growth_mib_per_minute']} MiB a minute"),
        ("cores used by server and clients", f"{result['server_cores']} and {result['client_cores']}"),
    ])
    yield ""
    yield "The clients are one Python process on the same cores: times are upper bounds."


if __name__ == "__main__":
    main()
