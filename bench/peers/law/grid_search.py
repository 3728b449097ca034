"""The kind of search the published exponents came from: every node of a grid of (A, alpha, beta, D) against every row.

The numpy pass runs in chunks that stay in the cache, on one thread; the Python loop is timed on a sample of the nodes and
extrapolated.
"""

import time

import numpy as np

NODES = {"A": 50, "alpha": 50, "beta": 50, "D": 40}  # 5 million
RANGES = {"A": (0.3, 0.8), "alpha": (0.01, 0.2), "beta": (0.001, 0.05), "D": (0.0, 0.3)}


def axes():
    return {name: np.linspace(*RANGES[name], count) for name, count in NODES.items()}


def numpy_pass(table, chunk=4096):
    """One pass over all nodes, each evaluated as the law is written: seconds, least sum of squares, its coefficients."""
    x1, x2, y = table
    ln1, ln2 = np.log(x1), np.log(x2)
    nodes = np.stack(np.meshgrid(*axes().values(), indexing="ij"), axis=-1).reshape(-1, 4)
    start = time.perf_counter()
    least, law = np.inf, None
    for first in range(0, len(nodes), chunk):
        a, alpha, beta, d = nodes[first : first + chunk].T[:, :, None]
        residual = a * np.exp(-alpha * ln1 - beta * ln2) + d - y  # [4096, 28]
        squares = np.einsum("nr,nr->n", residual, residual)
        node = squares.argmin()
        if squares[node] < least:
            least, law = float(squares[node]), nodes[first + node].tolist()
    return time.perf_counter() - start, least, dict(zip(NODES, law))


def shared_pass(table):
    """The same with one exponential for the 2,000 nodes that share both exponents: as fast as numpy gets."""
    x1, x2, y = table
    ln1, ln2 = np.log(x1), np.log(x2)
    grid = axes()
    start = time.perf_counter()
    least = np.inf
    scale, floor = np.meshgrid(grid["A"], grid["D"], indexing="ij")
    scale, floor = scale.reshape(-1, 1), floor.reshape(-1, 1)
    for alpha in grid["alpha"]:
        for beta in grid["beta"]:
            residual = scale * np.exp(-alpha * ln1 - beta * ln2) + (floor - y)  # [2000, 28]
            least = min(least, float(np.einsum("nr,nr->n", residual, residual).min()))
    return time.perf_counter() - start, least


def python_loop(table, sample=20_000, seed=0):
    """The plain loop on randomly drawn nodes: seconds for all nodes, extrapolated from `sample` of them."""
    rows = [tuple(map(float, row)) for row in zip(*table)]
    rng = np.random.default_rng(seed)
    nodes = list(zip(*(rng.choice(axis, sample).tolist() for axis in axes().values())))
    start = time.perf_counter()
    least = float("inf")
    for a, alpha, beta, d in nodes:
        squares = 0.0
        for x1, x2, y in rows:
            residual = a * x1**-alpha * x2**-beta + d - y
            squares += residual * residual
        least = min(least, squares)
    seconds = time.perf_counter() - start
    return seconds * np.prod(list(NODES.values())) / sample
