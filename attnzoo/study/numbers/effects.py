"""The size of an effect in units of its spread over seeds."""

from __future__ import annotations

import math

from attnzoo.study.numbers.quadrature import noncentral_t
from attnzoo.train import require

__all__ = ["effect_size"]


def effect_size(t: float, seeds: int, level: float = 0.95) -> tuple[float, float, float]:
    """Cohen's d_z, the mean of paired differences over their deviation, and its interval.

    The interval is exact where differences are normal: t then has a noncentral t distribution,
    whose noncentrality is the true d_z times √n (Cumming and Finch, 2001). With few seeds it is
    wide, and d_z itself overestimates.

    Args:
        t: the paired test's statistic.
        seeds: how many differences.
        level: of the interval.

    Returns:
        d_z, and the ends of its interval.
    """
    root = math.sqrt(seeds)
    low, high = (_noncentrality(t, seeds - 1, tail) for tail in ((1 + level) / 2, (1 - level) / 2))
    return t / root, low / root, high / root


def _noncentrality(t: float, free: int, tail: float) -> float:
    """The noncentrality with which a share `tail` of noncentral t is at most `t`."""
    optimize = require("scipy.optimize", "scipy")
    # About normal around t, with a spread that grows with it.
    reach = 10 * math.sqrt(1 + t**2)
    return optimize.brentq(
        lambda shift: noncentral_t(t, free, shift) - tail, t - reach, t + reach, xtol=1e-12
    )
