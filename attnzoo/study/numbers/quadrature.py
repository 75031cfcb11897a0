"""Sums over what chance may give, the found deviation above all, for the power of t tests.

A mean of normal values is normal and independent of their deviation, which has a χ distribution:
what a t test does is a function of both, averaged. Gauss and Legendre's rule takes that average to
some 1e-12, also where scipy's noncentral t gives nan.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from attnzoo.train import require

__all__ = ["deviations", "noncentral_t"]

NODES = 96
FAR = 9.0
"""Standard errors beyond which a normal value never falls: 2e-19."""


@functools.lru_cache(maxsize=1024)
def deviations(free: int, largest: float = math.inf) -> tuple[NDArray, NDArray]:
    """Deviations that may be found, up to `largest`, and their weights in an average.

    Args:
        free: degrees of freedom.
        largest: what lies beyond counts for nothing.

    Returns:
        `(nodes, weights)`, deviations as shares of the true one; of the weights, those left out
        aside, the sum is 1.
    """
    chi, root = require("scipy.stats", "scipy").chi, math.sqrt(free)
    low, high = _reach(free)
    nodes, weights = _interval(low, max(low, min(high, largest)))
    return nodes, weights * chi.pdf(nodes * root, free) * root


def noncentral_t(t: float, free: int, shift: float) -> float:
    """Chance that noncentral t with noncentrality `shift` is at most `t`."""
    if t < 0:
        return 1 - noncentral_t(-t, free, -shift)
    special = require("scipy.special", "scipy")  # quicker than its distributions by far
    if t <= math.sqrt(2 * free):  # over the deviation, in which the chance then changes slowly
        nodes, weights = deviations(free)
        return float(weights @ special.ndtr(t * nodes - shift))
    nodes, weights = _interval(min(max(-shift, -FAR), FAR), FAR)  # over the mean
    beyond = special.gammaincc(free / 2, ((nodes + shift) / t) ** 2 * free / 2)  # χ's
    density = np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return float(special.ndtr(-shift) + (weights * density) @ beyond)


@functools.cache
def _reach(free: int) -> tuple[float, float]:
    """The deviations, as shares of the true one, beyond which none is found: 1e-15."""
    low, high = require("scipy.stats", "scipy").chi.ppf([1e-15, 1 - 1e-15], free)
    return float(low) / math.sqrt(free), float(high) / math.sqrt(free)


_legendre = functools.cache(np.polynomial.legendre.leggauss)


def _interval(low: float, high: float) -> tuple[NDArray, NDArray]:
    nodes, weights = _legendre(NODES)
    return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2
