"""The two laws and the two objectives, once, for every result: whoever found the coefficients, this judges them.

Product: A * x1^-alpha * x2^-beta + D.  Sum: A * x1^-alpha + B * x2^-beta + E.
A law is a dictionary of its coefficients by name, in the units of the table it was fitted to.
"""

import math

import numpy as np

NAMES = {"product": ("A", "alpha", "beta", "D"), "sum": ("A", "alpha", "B", "beta", "E")}


def predict(law, x1, x2):
    """The law's values at x1, x2 (arrays of one length)."""
    first = law["A"] * x1 ** -law["alpha"]
    if "B" in law:
        return first + law["B"] * x2 ** -law["beta"] + law["E"]
    return first * x2 ** -law["beta"] + law["D"]


def huber(residual, delta):
    """Half the square inside delta, a line outside."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def objective(law, table, delta=None):
    """The plain sum: of squared residuals, or with `delta` of Huber's loss of log-residuals."""
    x1, x2, y = table
    fitted = predict(law, x1, x2)
    if delta is None:
        return math.fsum((fitted - y) ** 2)
    if np.any(fitted <= 0):
        return math.inf
    return math.fsum(huber(np.log(fitted) - np.log(y), delta))


def feasible(law, highest=4.0):
    """Inside the range foveate searches: coefficients at or above zero, exponents from zero to `highest`."""
    exponents = law["alpha"], law["beta"]
    return all(value >= 0 for value in law.values()) and max(exponents) <= highest
