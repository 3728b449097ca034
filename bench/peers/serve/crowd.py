"""Many clients at once, each with one request after another, and what they saw."""

import itertools
import random
import resource
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from client import ask

PAUSE = 0.05  # seconds that a client waits behind a 429


@dataclass
class Crowd:
    seconds: float = 0.0
    answers: list = field(default_factory=list)  # (number of the request, Answer)
    client_cores: float = 0.0  # that the clients themselves used

    def statuses(self):
        return dict(Counter(str(answer.status) for _, answer in self.answers))

    def fine(self):
        return [answer for _, answer in self.answers if answer.fine]

    def failed(self):
        """Neither answered nor refused with 429."""
        return [answer for _, answer in self.answers if not answer.fine and answer.status != 429]

    def tokens_per_second(self):
        return sum(answer.tokens for answer in self.fine()) / self.seconds

    def requests_per_second(self):
        return len(self.fine()) / self.seconds

    def first_ms(self):
        return [1e3 * answer.first for answer in self.fine() if answer.first is not None]

    def total_ms(self):
        return [1e3 * answer.total for answer in self.fine()]


def crowd(server, requests, clients, seconds=None, each=None, between=None):
    """`clients` at once for so many seconds, or so many requests each; `between` is called by the caller's thread meanwhile."""
    found, lock = Crowd(), threading.Lock()
    started, used = time.perf_counter(), processor_seconds()

    def client(which):
        # Each in an order of its own, the same in every run.
        order = random.Random(which).sample(range(len(requests)), len(requests))
        for number, at in enumerate(itertools.cycle(order)):
            over = time.perf_counter() - started >= seconds if seconds else number >= each
            if over:
                return
            answer = ask(server, requests[at].body, requests[at].headers)
            with lock:
                found.answers.append((at, answer))
            if answer.status == 429:
                time.sleep(PAUSE)

    threads = [threading.Thread(target=client, args=(which,)) for which in range(clients)]
    for thread in threads:
        thread.start()
    if between:
        between()
    for thread in threads:
        thread.join()
    found.seconds = time.perf_counter() - started
    found.client_cores = (processor_seconds() - used) / found.seconds
    return found


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def share(values, part):
    """The value below which `part` of them lie; None without any."""
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))] if values else None
