"""foveate against scipy and chinchilla on the same tables: whose objective is lower, and what it took.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 taskset -c 0 \
        python bench/peers/law/compare.py --out bench/results/DATE-law-fit

Needs numpy, scipy, pandas and chinchilla, `cargo build --release`, and for the time of a fit inside the library
`cargo bench -p foveate-law --bench fit`. Writes DATE-law-fit.md and DATE-law-fit.json.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import grid_search
import laws
import program
import report
import scipy_peers
import tables
from chinchilla_peer import best_chinchilla

DELTA = 1e-3
STARTS = 32
SCIPY = {"scipy L-BFGS-B": scipy_peers.best_l_bfgs_b, "scipy least_squares": scipy_peers.best_least_squares}


def timed(call, *arguments):
    start = time.perf_counter()
    return call(*arguments), time.perf_counter() - start


def peers(table, form, delta, seed):
    """Every scipy peer: (name, law, seconds)."""
    for name, best in SCIPY.items():
        law, seconds = timed(best, table, form, delta, STARTS, seed)
        yield name, law, seconds


def row(name, law, seconds, table, delta, ours=None):
    value = laws.objective(law, table, delta)
    result = {"program": name, "objective": value, "seconds": seconds, "law": law}
    if ours is not None:
        result |= {"above_foveate": value - ours, "feasible": laws.feasible(law)}
    return result


def published():
    """The published reasoning table: both forms, both objectives."""
    table = tables.reasoning()
    for form in ("product", "sum"):
        for delta in (None, DELTA):
            options = ["--preset", "reasoning", "--law", form, *program.objective_options(delta)]
            document, seconds = program.fit(*options)
            first = row("foveate", document["coefficients"], seconds, table, delta)
            rows = [first]
            for name, law, seconds in peers(table, form, delta, seed=0):
                rows.append(row(name, law, seconds, table, delta, first["objective"]))
            yield {"table": "reasoning", "law": form, "delta": delta, "rows": rows}


def simulated(seeds, with_chinchilla):
    """Losses with outliers: the sum form under the log-Huber objective."""
    for seed in range(seeds):
        raw = tables.losses(seed)
        table = raw[0] / tables.SCALE, raw[1] / tables.SCALE, raw[2]
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            tables.write(file.name, *raw)
            columns = ["--x1", "parameters", "--x2", "training_tokens", "--y", "loss", "--y-kind", "loss"]
            scales = ["--scale1", tables.SCALE, "--scale2", tables.SCALE]
            options = [file.name, *columns, *scales, "--law", "sum", *program.objective_options(DELTA)]
            document, seconds = program.fit(*options)
        first = row("foveate", document["coefficients"], seconds, table, DELTA)
        rows = [first]
        for name, law, seconds in peers(table, "sum", DELTA, seed):
            rows.append(row(name, law, seconds, table, DELTA, first["objective"]))
        if seed < with_chinchilla:
            law, seconds = timed(best_chinchilla, raw, DELTA)
            # Its coefficients belong to unscaled columns.
            rows.append(row("chinchilla", law, seconds, raw, DELTA, first["objective"]))
        yield {"table": f"losses, seed {seed}", "law": "sum", "delta": DELTA, "rows": rows}


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "runs": len(values)}


def grids(repeats):
    """The grid search, and one foveate fit beside it: from the benchmark, and from whole processes."""
    table = tables.reasoning()
    passes = [grid_search.numpy_pass(table) for _ in range(repeats)]
    with_draws, without = [], []
    for _ in range(3 * repeats):
        without.append(program.fit("--preset", "reasoning", bootstrap=0)[1])
        with_draws.append(program.fit("--preset", "reasoning", bootstrap=1000)[1])
    return {
        "nodes": 5_000_000,
        "rows": 28,
        "numpy_seconds": spread([seconds for seconds, _, _ in passes]),
        "numpy_least": {"objective": passes[0][1], "law": passes[0][2]},
        "shared_seconds": spread([grid_search.shared_pass(table)[0] for _ in range(repeats)]),
        "python_seconds_extrapolated": spread([grid_search.python_loop(table) for _ in range(repeats)]),
        "foveate_process_bootstrap_0": spread(without),
        "foveate_process_bootstrap_1000": spread(with_draws),
        "foveate_thousand_draws": {key: spread(with_draws)[key] - spread(without)[key] for key in ("min", "median")},
        "benchmark": benchmark(),
    }


def benchmark():
    """What `cargo bench -p foveate-law --bench fit` measured, if it was run: seconds by name, least sample and median."""
    found = {}
    for sample in sorted((tables.ROOT / "target/criterion").glob("*/*/new/sample.json")):
        measured = json.loads(sample.read_text())
        each = [seconds / count / 1e9 for seconds, count in zip(measured["times"], measured["iters"])]
        found["/".join(sample.parts[-4:-2])] = spread(each)
    return found


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "unknown")
    packages = ("numpy", "scipy", "chinchilla")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages} | {"foveate": program.version()},
        "threads": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        "pinned_to": sorted(os.sched_getaffinity(0)),
        "command": "python " + " ".join(sys.argv),
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="path without .md and .json")
    arguments.add_argument("--seeds", type=int, default=10, help="simulated tables")
    arguments.add_argument("--chinchilla", type=int, default=3, help="of these, how many chinchilla fits too")
    arguments.add_argument("--repeats", type=int, default=5, help="repeats of the timed grid passes")
    chosen = arguments.parse_args()
    result = {"date": datetime.date.today().isoformat(), "machine": machine()}
    result["published"] = list(published())
    result["simulated"] = list(simulated(chosen.seeds, chosen.chinchilla))
    result["grid"] = grids(chosen.repeats)
    result["machine"]["load_after"] = os.getloadavg()
    chosen.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    text = report.markdown(result)
    chosen.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
