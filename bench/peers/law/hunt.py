"""Looks for tables on which scipy finds a lower objective than foveate: small random ones, grids and scattered, with
noise and outliers of every size, both forms, both objectives.

    python bench/peers/law/hunt.py --first 0 --count 60

Prints each such table's number with both laws, and the count. Tables of six rows and five coefficients are included on
purpose.
"""

import argparse
import csv
import tempfile

import numpy as np

import laws
import program
import scipy_peers

STARTS = 12


def table(seed):
    """(form, delta, (x1, x2, y)); delta is None for squares."""
    rng = np.random.default_rng(seed)
    form = "sum" if rng.random() < 0.6 else "product"
    delta = float(rng.choice([0, 1e-3, 1e-3, 1e-2, 0.1])) or None
    if rng.random() < 0.5:
        levels = np.sort(10 ** rng.uniform(-1, 1.5, rng.integers(2, 6))), np.sort(10 ** rng.uniform(0, 3, rng.integers(3, 8)))
        x1, x2 = (axis.ravel() for axis in np.meshgrid(*levels))
    else:
        rows = int(rng.choice([8, 12, 20, 40]))
        x1, x2 = 10 ** rng.uniform(-2, 1, rows), 10 ** rng.uniform(0, 3, rows)
    alpha, beta = 10 ** rng.uniform(-2, 0.3, 2)
    left, right = (x1 / np.median(x1)) ** -alpha, (x2 / np.median(x2)) ** -beta
    share = rng.dirichlet([1, 1, 1]) * [1, 1, rng.random() > 0.3]
    y = share[0] * left + share[1] * right if form == "sum" else share[0] * left * right
    y = (y + share[2]) * np.exp(10 ** rng.uniform(-3.5, -0.5) * rng.standard_normal(len(x1)))
    off = rng.random(len(y)) < rng.choice([0, 0.05, 0.1, 0.3])
    y[off] *= np.exp(rng.uniform(-0.7, 0.7, off.sum()))
    return form, delta, (x1, x2, y)


def ours(form, delta, points):
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as file:
        out = csv.writer(file)
        out.writerow(["first", "second", "loss"])
        out.writerows([repr(float(value)) for value in row] for row in zip(*points))
        file.flush()
        columns = ["--x1", "first", "--x2", "second", "--y", "loss", "--y-kind", "loss"]
        options = [file.name, *columns, "--law", form, *program.objective_options(delta)]
        return program.fit(*options)[0]["coefficients"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--count", type=int, default=60)
    chosen = arguments.parse_args()
    beaten = 0
    for seed in range(chosen.first, chosen.first + chosen.count):
        form, delta, points = table(seed)
        law = ours(form, delta, points)
        peer = scipy_peers.best_l_bfgs_b(points, form, delta, STARTS, seed)
        gap = laws.objective(peer, points, delta) - laws.objective(law, points, delta)
        if gap < -1e-9:
            beaten += 1
            print(f"table {seed} ({form}, delta {delta}, {len(points[0])} rows): scipy lower by {-gap:.2e}: {peer}, not {law}")
    print(f"scipy lower by more than 1e-9 in {beaten} of {chosen.count} tables")


if __name__ == "__main__":
    main()
