"""Giving up: what is left alone because it would hardly be decided with further seeds.

A rule that looks again and again saves seeds where it stops early, also with nothing found. Here
the chance of missing a difference, 20% in all, is spent over the looks as the level is (Pampallona,
Tsiatis, Kim, 2001), for the difference that the rule with all its seeds finds with 80% chance. A
comparison is given up where p of the paired t test is above the look's bound.

The bounds of the level do not count on it, so giving up makes no verdict wrong: who goes on all
the same errs no more often. They come from simulated comparisons, the same ones each time.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnzoo.study.numbers.sequential import SPENDING, look_bounds, p_at_looks

__all__ = ["futile", "futility_bounds"]

MISSED = 0.2
COMPARISONS = 10_000
STEPS = 16  # of a bisection for the difference


def futile(differences: ArrayLike, least: int, most: int, level: float) -> NDArray:
    """Whether a look so far was one to give up at, before it was decided.

    Args:
        differences: along the last axis, in the order of the looks; at most `most`.
        least: seeds at the first look.
        most: seeds at the last.
        level: at which it would be decided.
    """
    p = p_at_looks(differences, 0.0, least)
    looks = p.shape[-1]
    decided = (p <= look_bounds(least, most, level)[:looks]).cumsum(-1) > 0
    return np.asarray(((p > futility_bounds(least, most, level)[:looks]) & ~decided).any(-1))


@functools.lru_cache(maxsize=64)
def futility_bounds(least: int, most: int, level: float) -> NDArray:
    """The p above which a comparison is given up at each look; 1 where it is not."""
    noise = np.random.default_rng(0).normal(size=(COMPARISONS, most))
    bounds = look_bounds(least, most, level)
    low, high = 0.0, 10.0  # deviations: too small a difference, too large a one
    for _ in range(STEPS):
        middle = (low + high) / 2
        power, _ = _missing(noise + middle, least, bounds)
        low, high = (middle, high) if power < 1 - MISSED else (low, middle)
    return _missing(noise + high, least, bounds)[1]


def _missing(values: NDArray, least: int, bounds: NDArray) -> tuple[float, NDArray]:
    """The power of a rule that misses so many, and its bounds for giving up."""
    p = p_at_looks(values, 0.0, least)
    count, most = p.shape[0], values.shape[-1]
    spent = MISSED * (np.arange(least, most + 1) / most) ** SPENDING
    left, given_up, found = np.ones(count, bool), 0, 0
    ends = np.ones(len(bounds))
    for look, bound in enumerate(bounds):
        decided = left & (p[:, look] <= bound)
        found += int(decided.sum())
        left &= ~decided
        due = int(spent[look] * count) - given_up
        if due > 0 and look + 1 < len(bounds):
            farthest = np.sort(p[left, look])[::-1]
            ends[look] = farthest[due] if due < len(farthest) else bound
            gone = left & (p[:, look] > ends[look])
            given_up += int(gone.sum())
            left &= ~gone
    return found / count, ends
