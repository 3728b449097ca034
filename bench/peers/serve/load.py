"""Load on a server with OpenAI's API: so many clients at once, for so long, each with one request after another.

    python load.py http://127.0.0.1:8080 --model NAME --clients 16 --requests 4 --new-tokens 128
    python load.py … --clients 64 --seconds 120 --images --check

Prints one JSON line: tokens a second, times to the first token and to the last (p50, p95), statuses, and with --check how many
answers differ from those of a client that was alone. Standard library only.
"""

import argparse
import json

import mix
from client import ask
from crowd import crowd, share


def quarters(values):
    return {name: None if not values else round(share(values, part), 1) for name, part in (("p50", 0.5), ("p95", 0.95))}


def summary(found):
    return {
        "seconds": round(found.seconds, 2),
        "requests": len(found.answers),
        "statuses": found.statuses(),
        "failed": len(found.failed()),
        "requests_per_second": round(found.requests_per_second(), 2),
        "tokens_per_second": round(found.tokens_per_second(), 1),
        "first_token_ms": quarters(found.first_ms()),
        "total_ms": quarters(found.total_ms()),
        "client_cores": round(found.client_cores, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", help="http://host:port")
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument("--seconds", type=float, help="instead of a number of requests")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--images", action="store_true", help="every second request is about a picture")
    parser.add_argument("--different", type=int, default=24, help="different requests")
    parser.add_argument("--check", action="store_true", help="compare answers with those of a client that is alone")
    options = parser.parse_args()
    requests = mix.mixed(options.model, options.different, options.new_tokens, options.images)
    alone = [ask(options.server, request.body).text for request in requests] if options.check else None
    found = crowd(options.server, requests, options.clients, options.seconds, options.requests)
    different = sum(answer.text != alone[at] for at, answer in found.answers if answer.fine) if alone else None
    print(json.dumps({"clients": options.clients} | summary(found) | {"different_answers": different}))


if __name__ == "__main__":
    main()
