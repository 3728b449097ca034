"""From the start of a process to the first token on its standard output, and the most memory it held."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import machine

HERE = pathlib.Path(__file__).resolve().parent
SYSTEM = "Be as brief as you can."
QUESTION = "What is the largest planet of the sun?"
LONG = "Count the following words and say how many there are: " + "river stone cloud lamp " * 110
GOAL_MS = 300.0
CONTEXT = 512
# SmolLM2-135M: blocks × keys and values × key heads × channels of a head.
CACHE_VALUES = 30 * 2 * 3 * 64
MIB = 2**20


def launch(command, threads, log):
    """One process: milliseconds to its first byte and to its end, and its peak resident memory."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    before = machine.busy()
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=log, env=environment)
    first = process.stdout.read(1)
    first_ms = (time.perf_counter() - start) * 1e3
    rest = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode != 0 or not first:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with status {process.returncode} and {first + rest!r}")
    others = (machine.busy() - before) / machine.TICK - usage.ru_utime - usage.ru_stime
    return {
        "first_ms": first_ms,
        "wall_ms": wall * 1e3,
        "peak_mib": usage.ru_maxrss / 1024,
        "others": round(max(0.0, others / wall), 2),
    }


def ask(options, system, question, new_tokens, *more):
    command = [options.foveate.resolve(), "ask", options.gguf, question, "--system", system, "--temperature", "0"]
    return [*command, "--max-new-tokens", new_tokens, "--threads", options.threads, *more]


def prompt_tokens(options, question, log):
    command = [*map(str, ask(options, SYSTEM, question, 1, "--json"))]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, check=True)
    return json.loads(told.stdout)["text_tokens"]


def entrants(options, tokens, folder):
    peer = [sys.executable, HERE / "first_token.py"]
    common = ["--tokens", tokens, "--threads", options.threads]
    python = "Python's own start and imports are in it"
    return {
        "foveate ask": (ask(options, SYSTEM, QUESTION, 1), "the Q4_1 file"),
        "llama.cpp": ([*peer, "llama.cpp", options.gguf, *common], f"the Q4_1 file; {python}"),
        "transformers": ([*peer, "transformers", folder, *common], f"random weights in bf16 from safetensors; {python}"),
    }


def measure(options, log):
    options.gguf.read_bytes()
    tokens = prompt_tokens(options, QUESTION, log)
    result = {"prompt_tokens": tokens, "load_before": os.getloadavg(), "entrants": {}}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, HERE / "first_token.py", "make", folder], stderr=log, check=True)
        commands = entrants(options, tokens, folder)
        for label, (_, notes) in commands.items():
            result["entrants"][label] = {"samples": [], "notes": notes}
        for _ in range(options.rounds):
            for label, (command, _) in commands.items():
                entry = result["entrants"][label]
                if "error" not in entry:
                    try:
                        entry["samples"].append(undisturbed(command, options, log))
                    except RuntimeError as error:
                        entry["error"] = str(error)
    result["long"] = launch(ask(options, SYSTEM, LONG, 16), options.threads, log) | {
        "prompt_tokens": prompt_tokens(options, LONG, log)
    }
    result["goals"] = goals(result, options.gguf.stat().st_size)
    return result


def undisturbed(command, options, log):
    for _ in range(3):
        machine.wait_for_quiet(options.others, options.patience)
        found = launch(command, options.threads, log)
        if found["others"] <= options.others:
            break
    return found


def goals(result, size):
    """In words; the resident limit counts the file as the weights."""
    lines = []
    taken = [sample["first_ms"] for sample in result["entrants"]["foveate ask"]["samples"]]
    if taken:
        median = statistics.median(taken)
        lines.append(f"first token in {median:.0f} ms; goal ≤ {GOAL_MS:.0f} ms: {met(median, GOAL_MS)}")
    limit = (size * 1.1 + CONTEXT * CACHE_VALUES * 4) / MIB + 80
    peak = result["long"]["peak_mib"]
    lines.append(
        f"peak resident memory of `foveate ask` with {result['long']['prompt_tokens']} tokens of prompt and 16 new: "
        f"{peak:.0f} MiB; goal ≤ {limit:.0f} MiB (file × 1.1, keys and values of {CONTEXT} positions in f32, 80 MiB): "
        f"{met(peak, limit)}"
    )
    return lines


def met(value, limit):
    return "met" if value <= limit else "**missed**"
