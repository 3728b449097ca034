"""scipy on the same problems: multi-start L-BFGS-B with exact gradients, and multi-start least_squares.

Both get what helps them: centred logarithms, scaled coefficients, bounds instead of transformations, tight tolerances.
A point of the search is (alpha, beta, coefficients...), coefficients at the centre of the table.
"""

import numpy as np
from scipy.optimize import least_squares, minimize

from laws import NAMES

TIGHT = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}


class Problem:
    def __init__(self, table, form, delta):
        x1, x2, self.y = table
        self.form, self.delta = form, delta
        self.centre = np.log(x1).mean(), np.log(x2).mean()
        self.u, self.v = np.log(x1) - self.centre[0], np.log(x2) - self.centre[1]
        self.ln_y = np.log(self.y)
        terms = 1 if form == "product" else 2
        self.low = np.zeros(3 + terms)
        self.high = np.array([4.0, 4.0] + [np.inf] * (terms + 1))

    def starts(self, count, seed):
        """Exponents log-uniform in 0.005 to 2; the typical loss shared out at random."""
        rng = np.random.default_rng(seed)
        for _ in range(count):
            exponents = np.exp(rng.uniform(np.log(0.005), np.log(2.0), 2))
            yield np.concatenate([exponents, rng.dirichlet(np.ones(len(self.low) - 2)) * np.median(self.y)])

    def model(self, p):
        """Values and their derivatives, one row per measurement."""
        alpha, beta = p[:2]
        one = np.ones_like(self.u)
        if self.form == "product":
            power = np.exp(-alpha * self.u - beta * self.v)
            term = p[2] * power
            return term + p[3], np.column_stack([-self.u * term, -self.v * term, power, one])
        left, right = np.exp(-alpha * self.u), np.exp(-beta * self.v)
        first, second = p[2] * left, p[3] * right
        return first + second + p[4], np.column_stack([-self.u * first, -self.v * second, left, right, one])

    def residuals(self, p):
        value, slope = self.model(p)
        if self.delta is None:
            return value - self.y, slope
        value = np.maximum(value, 1e-300)
        return np.log(value) - self.ln_y, slope / value[:, None]

    def value(self, p):
        """The objective and its gradient."""
        residual, slope = self.residuals(p)
        if self.delta is None:
            return residual @ residual, 2 * slope.T @ residual
        size = np.abs(residual)
        inside = size <= self.delta
        loss = np.where(inside, 0.5 * residual**2, self.delta * (size - 0.5 * self.delta))
        return loss.sum(), slope.T @ np.where(inside, residual, self.delta * np.sign(residual))

    def law(self, p):
        alpha, beta = p[:2]
        left, right = np.exp(alpha * self.centre[0]), np.exp(beta * self.centre[1])
        if self.form == "product":
            values = p[2] * left * right, alpha, beta, p[3]
        else:
            values = p[2] * left, alpha, p[3] * right, beta, p[4]
        return dict(zip(NAMES[self.form], map(float, values)))


def best_l_bfgs_b(table, form, delta, starts, seed):
    """The best law over all starts. The objective is scaled up to about one: its stop rules are made for that."""
    problem = Problem(table, form, delta)
    best = None
    for start in problem.starts(starts, seed):
        scale = 1.0 / problem.value(start)[0]
        scaled = lambda p: tuple(scale * part for part in problem.value(p))
        options = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000, "maxfun": 20000, "maxcor": 20}
        bounds = list(zip(problem.low, problem.high))
        end = minimize(scaled, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        best = min(best or (np.inf, None), (problem.value(end)[0], tuple(end)))
    return problem.law(np.array(best[1]))


def best_least_squares(table, form, delta, starts, seed):
    """The best law over all starts; Huber's loss is scipy's own, the same function as ours at f_scale = delta."""
    problem = Problem(table, form, delta)
    loss = {"loss": "linear"} if delta is None else {"loss": "huber", "f_scale": delta}
    best = None
    for start in problem.starts(starts, seed):
        end = least_squares(
            lambda p: problem.residuals(p)[0],
            start,
            jac=lambda p: problem.residuals(p)[1],
            bounds=(problem.low, problem.high),
            x_scale="jac",
            max_nfev=2000,
            **loss,
            **TIGHT,
        ).x
        best = min(best or (np.inf, None), (problem.value(end)[0], tuple(end)))
    return problem.law(np.array(best[1]))
