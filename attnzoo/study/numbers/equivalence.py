"""Whether two are the same, within a margin. Along the last axis, one difference a seed.

Two one-sided t tests (Schuirmann, 1987), paired: the same is shown where the mean difference is
both below the margin and above its negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnzoo.study.numbers.inference import EQUAL, MOST_SEEDS, is_flat
from attnzoo.study.numbers.quadrature import deviations
from attnzoo.train import require

__all__ = ["posterior", "same_p", "same_power", "seeds_for_same"]


def same_p(differences: ArrayLike, margin: float, shared: float = 0.0) -> NDArray:
    """P of "the mean difference is `margin` or more, either way" by two one-sided t tests.

    Where all differences are equal, t has no spread to measure them by, and a one-sided
    permutation test's smallest p, 1/2ⁿ, is taken; 1 if they are not within the margin. With
    `shared`, as in `resampled`, equal differences tell nothing.
    """
    array = np.asarray(differences, dtype=float)
    n, mean = array.shape[-1], array.mean(-1)
    room = margin - np.abs(mean)  # to the nearer end, whose test has the larger p
    flat = is_flat(array)
    spread = np.where(flat, 1.0, array.std(-1, ddof=1))
    p = require("scipy.stats", "scipy").t.sf(room / np.sqrt(1 / n + shared) / spread, n - 1)
    return np.where(flat, np.where((room > EQUAL) & (shared == 0), 0.5**n, 1.0), p)


def posterior(
    mean: ArrayLike, deviation: ArrayLike, seeds: int, margin: float, shared: float = 0.0
) -> tuple[NDArray, NDArray, NDArray]:
    """Probabilities that the true mean difference is below, within and above ±`margin`.

    With normal differences and the usual flat prior, p(μ, σ) ∝ 1/σ, the true mean lies about the
    measured one by Student's t with n - 1 degrees of freedom (Gelman et al., Bayesian Data
    Analysis, 3.2; Benavoli et al., 2017, arXiv:1606.04316, with runs that are independent).

    Args:
        mean: of the differences.
        deviation: standard deviation of the differences; above 0.
        seeds: how many differences.
        margin: in the same unit.
        shared: as in `resampled`; it is then Benavoli's correlated t test.
    """
    student = require("scipy.stats", "scipy").t
    error = np.asarray(deviation, dtype=float) * np.sqrt(1 / seeds + shared)
    below = student.cdf((-margin - np.asarray(mean)) / error, seeds - 1)
    above = student.sf((margin - np.asarray(mean)) / error, seeds - 1)
    return below, 1 - below - above, above


def same_power(
    deviation: float, margin: float, seeds: int, alpha: float, shared: float = 0.0
) -> float:
    """Chance that `same_p` is at most `alpha` where the true difference is 0.

    Args:
        deviation: the true one of the differences.
        margin: in the same unit.
        seeds: how many differences.
        alpha: below 0.5.
        shared: as in `resampled`.
    """
    stats = require("scipy.stats", "scipy")
    ends = (
        margin / np.sqrt(1 / seeds + shared) / deviation
    )  # of the mean, in its own standard errors
    quantile = stats.t.isf(alpha, seeds - 1)
    # With a larger deviation no mean is near enough to 0.
    found, weights = deviations(seeds - 1, largest=ends / quantile)
    return float(weights @ (2 * stats.norm.cdf(ends - quantile * found) - 1))


def seeds_for_same(
    deviation: float, margin: float, alpha: float = 0.05, power: float = 0.8, shared: float = 0.0
) -> int | None:
    """Seeds with which two that do not differ are called the same with this power.

    Args:
        deviation: standard deviation of the differences over seeds.
        margin: in the same unit.
        alpha: p at which the test rejects.
        power: chance of it.
        shared: as in `resampled`.

    Returns:
        At least 2; None where more than 1,000 would be needed, or where the deviation is 0 and
        so unknown.
    """
    if deviation <= EQUAL or same_power(deviation, margin, MOST_SEEDS, alpha, shared) < power:
        return None
    low, high = 1, MOST_SEEDS  # too few, enough; more seeds have more power
    while high - low > 1:
        middle = (low + high) // 2
        if same_power(deviation, margin, middle, alpha, shared) >= power:
            high = middle
        else:
            low = middle
    return high
