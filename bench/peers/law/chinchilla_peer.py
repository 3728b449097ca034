"""PyPI `chinchilla` through its public class: BFGS from a grid of starts, with its own log-Huber loss.

Its loss has delta = 1 unless told otherwise and is averaged; here delta is the comparison's. It fits ln A, ln B and ln E
(keys `a`, `b`, `e`), in 80-bit arithmetic, with numerical gradients, and does not bound the exponents.
"""

import tempfile

import numpy as np
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber

# The grid of the published study of the loss law, thinned to what runs in minutes on one core.
GRID = {
    "e": np.array([-1.0, 0.0, 1.0]),
    "a": np.array([0.0, 2.5, 5.0]),
    "b": np.array([0.0, 2.5, 5.0]),
    "alpha": np.array([0.0, 0.5, 1.0]),
    "beta": np.array([0.0, 0.5, 1.0]),
}


def best_chinchilla(table, delta):
    """The law it finds, in the table's units."""

    def loss(y_true, y_pred):
        return log_huber(y_true, y_pred, delta)

    with tempfile.TemporaryDirectory() as folder:
        peer = Chinchilla(folder, param_grid=GRID, loss_fn=loss, log_level=50)
        # A picture is drawn after each fit; it is no part of the fit.
        peer.visualizer.optim = lambda *_, **__: None
        for parameters, tokens, value in zip(*table):
            peer.append(C=6 * parameters * tokens, N=parameters, D=tokens, loss=value)
        peer.fit(parallel=False)
        return {name: peer.params[name] for name in ("A", "alpha", "B", "beta", "E")}
