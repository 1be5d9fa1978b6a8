"""Scores that follow a logistic curve of the predictions, with noise."""

import numpy as np


def noisy_logistic(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    return x, 20 + 60 / (1 + np.exp(-(x - 0.5) / 0.12)) + rng.normal(0, 4, n)
