"""The mathematics of a comparison. Everything works along the last axis, one value a seed.

Student's paired t test decides. The permutation test is shown beside it and cannot decide: with n
seeds its smallest p is 2/2ⁿ, 0.0625 with five of them, before any correction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnzoo.train import require

__all__ = ["is_flat", "mean_interval", "paired_p", "permutation_p", "seeds_needed"]

EQUAL = 1e-9
"""Shares closer than this are equal: 0.52 - 0.50 and 0.72 - 0.70 differ in the last digit."""

EXACT = 14
"""Up to so many seeds all 2ⁿ permutations are gone through, beyond as many random ones."""

MOST_SEEDS = 1000
"""`seeds_needed` looks no further."""


def mean_interval(
    values: ArrayLike, level: float = 0.95, shared: float = 0.0
) -> tuple[NDArray, NDArray]:
    """Ends of the interval of the mean by Student's t; two values or more.

    With `shared`, values are of splits that share images; see `resampled`.
    """
    array = np.asarray(values, dtype=float)
    n = array.shape[-1]
    mean = array.mean(-1)
    quantile = require("scipy.stats", "scipy").t.ppf((1 + level) / 2, n - 1)
    half = np.where(is_flat(array), 0, quantile * array.std(-1, ddof=1) * np.sqrt(1 / n + shared))
    return mean - half, mean + half


def paired_p(differences: ArrayLike) -> NDArray:
    """Two-sided p of "the mean difference is 0" by the paired t test; two differences or more.

    Where all differences are equal, t has no spread to measure them by (scipy gives nan, or 0 out
    of rounding errors), and the permutation test's smallest p, 2/2ⁿ, is taken; 1 if all are 0.
    """
    array = np.asarray(differences, dtype=float)
    flat = is_flat(array)
    p = np.where(np.abs(array.mean(-1)) > EQUAL, 2.0 ** (1 - array.shape[-1]), 1.0)
    if not flat.all():
        p[~flat] = require("scipy.stats", "scipy").ttest_1samp(array[~flat], 0, axis=-1).pvalue
    return p


def permutation_p(differences: ArrayLike) -> float:
    """Two-sided p of one comparison by changing the signs of its differences in all ways.

    It assumes no distribution, only that plain and variant could be exchanged at each seed.
    """
    array = np.asarray(differences, dtype=float)
    found = require("scipy.stats", "scipy").permutation_test(
        (array,),
        lambda sample, axis: np.round(np.mean(sample, axis=axis), 9),  # what ties must tie
        permutation_type="samples",
        n_resamples=2**EXACT,
        rng=0,
    )
    return float(found.pvalue)


def seeds_needed(
    deviation: float, size: float, alpha: float = 0.05, power: float = 0.8, shared: float = 0.0
) -> int | None:
    """Seeds with which the paired t test finds a mean difference of `size` with this power.

    Args:
        deviation: standard deviation of the differences over seeds.
        size: the difference, in the same unit.
        alpha: p at which the test rejects.
        power: chance of it.
        shared: as in `resampled`.

    Returns:
        At least 2; None where more than 1,000 would be needed, or where the deviation is 0 and
        so unknown.
    """
    if deviation <= EQUAL:
        return None
    stats = require("scipy.stats", "scipy")
    n = np.arange(2, MOST_SEEDS + 1)
    # t² of the paired test has the noncentral F distribution
    reached = stats.ncf.sf(
        stats.f.isf(alpha, 1, n - 1), 1, n - 1, (size / deviation) ** 2 / (1 / n + shared)
    )
    enough = reached >= power
    return int(n[enough][0]) if enough.any() else None


def is_flat(array: NDArray) -> NDArray:
    """Whether all differences are equal, but for rounding errors."""
    return np.ptp(array, axis=-1) <= EQUAL
