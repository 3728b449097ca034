"""Tables to fit: the published one, and losses simulated from a known law with outliers."""

import csv
import pathlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[3]
REASONING = ROOT / "crates/law/data/reasoning.csv"
LAW = {"A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28, "E": 1.69}
SCALE = 1e9


def reasoning():
    """x1 in billions of parameters, x2 in visual tokens, error = 1 - score."""
    with open(REASONING, newline="") as file:
        rows = list(csv.DictReader(file))
    column = lambda name: np.array([float(row[name]) for row in rows])
    return column("params") / SCALE, column("visual_tokens"), 1.0 - column("score")


def losses(seed, rows=240, noise=0.005, outliers=0.08):
    """Losses over parameters (1e7 to 1e10) and training tokens (1e9 to 1e12), log-uniform.

    Log-normal noise; a share of the rows is off by 5 to 50 %, three in four of those upwards, as diverged runs are.
    """
    rng = np.random.default_rng(seed)
    parameters = np.round(10 ** rng.uniform(7, 10, rows))
    tokens = np.round(10 ** rng.uniform(9, 12, rows))
    loss = LAW["A"] * parameters ** -LAW["alpha"] + LAW["B"] * tokens ** -LAW["beta"] + LAW["E"]
    loss *= np.exp(noise * rng.standard_normal(rows))
    off = rng.random(rows) < outliers
    sign = np.where(rng.random(rows) < 0.75, 1.0, -1.0)
    loss[off] *= np.exp(sign * rng.uniform(0.05, 0.4, rows))[off]
    return parameters, tokens, loss


def write(path, parameters, tokens, loss):
    """As CSV with every digit, so that both sides read the same numbers."""
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["parameters", "training_tokens", "loss"])
        out.writerows((repr(float(n)), repr(float(d)), repr(float(y))) for n, d, y in zip(parameters, tokens, loss))
