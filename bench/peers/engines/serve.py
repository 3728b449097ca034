"""The worker's side: one JSON case a line in, one JSON line out, for as long as standard input lasts.

A case is what `foveate bench --worker` reads too: {"stage": …, "model": …, "visual_tokens": V, "text_tokens": T,
"new_tokens": K, "context": C, "dtype": …, "threads": t}, and keys of a peer's own beside them. The answer is {"ms": 12.3} or
{"error": …}. The stage "describe" answers with versions and settings.
"""

import contextlib
import json
import os
import sys
import time


def clocked(work):
    """A sample that is the whole of `work`, in milliseconds."""

    def sample():
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1e3

    return sample


def serve(prepare, describe):
    """`prepare(case)` loads what the case needs and returns a function that takes one sample; it is called once a case."""
    answers = private_output()
    samples = {}
    for line in sys.stdin:
        case = json.loads(line)
        try:
            answer = describe() if case["stage"] == "describe" else {"ms": measured(case, samples, prepare)}
        except Exception as error:  # whatever a peer raises is the answer to this case, and the next may work
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def measured(case, samples, prepare):
    key = json.dumps(case, sort_keys=True)
    if key not in samples:
        samples[key] = prepare(case)
        samples[key]()
    return samples[key]()


def private_output():
    """A file on the real standard output; what libraries print goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


@contextlib.contextmanager
def silence():
    """Nothing reaches standard error meanwhile: llama.cpp tells every tensor."""
    kept = os.dup(2)
    hole = os.open(os.devnull, os.O_WRONLY)
    os.dup2(hole, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(hole)
