"""Runs the `foveate` program and reads its JSON."""

import json
import os
import subprocess
import time

from tables import ROOT

FOVEATE = os.environ.get("FOVEATE", str(ROOT / "target/release/foveate"))


def fit(*arguments, bootstrap=0):
    """One `foveate fit`: the document and the seconds the whole process took."""
    command = [FOVEATE, "fit", *map(str, arguments), "--bootstrap", str(bootstrap), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout), seconds


def version():
    printed = subprocess.run([FOVEATE, "--version"], capture_output=True, text=True, check=True).stdout
    return printed.split()[-1]


def objective_options(delta):
    return ["--objective", "squared"] if delta is None else ["--objective", "huber-log", "--delta", delta]
