"""Corrections for asking many questions at once, along the last axis: a value a comparison.

Where a margin was settled, a comparison has two null hypotheses: that the difference is 0, rejected
by the paired t test, and that it is the margin or more, rejected by two one-sided tests. Both can't
hold, so no more than one of the two can be rejected wrongly, and they share the comparison's part
of the 5% (the partitioning principle: Goeman, Solari, Stijnen, 2010, doi:10.1002/sim.4002). Among
comparisons this is Shaffer's (1986) step-down: the divisor is how many nulls can still hold at
once. A comparison counts until both of its nulls are rejected, for until then one of them may hold
and be rejected wrongly. Holm's own step, by which a comparison hands its part on once it is called
better, would not do: where the true difference is somewhat over the margin, it might have been
called the same. `make bench-verdicts` shows by how much that errs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["benjamini_hochberg", "holm", "shared"]


def holm(p: ArrayLike) -> NDArray:
    """Adjusted p of a family of m comparisons (Holm, 1979).

    The smallest is multiplied by m, the next by m - 1 and so on, none falling below the one before.
    Rejecting where it is at most α keeps the chance of any false rejection at α, whatever the
    comparisons have in common.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    array = np.asarray(p, dtype=float)
    order = np.argsort(array, axis=-1)
    factors = np.arange(array.shape[-1], 0, -1)
    steps = np.maximum.accumulate(np.take_along_axis(array, order, -1) * factors, axis=-1)
    adjusted = np.empty_like(array)
    np.put_along_axis(adjusted, order, np.minimum(steps, 1), -1)
    return adjusted


def shared(different: ArrayLike, same: ArrayLike) -> tuple[NDArray, NDArray]:
    """Adjusted p of both nulls of m comparisons; of one comparison, both can't hold.

    Rejecting where they are at most α keeps the chance of any false rejection, of either kind, at
    α, whatever the comparisons have in common. With `same` equal to `different` it is Holm's.

    Args:
        different: p of "the difference is 0".
        same: p of "the difference is the margin or more".

    Example:
        >>> [p.round(3).tolist() for p in shared([0.001, 0.4], [0.9, 0.02])]
        [[0.002, 0.8], [0.9, 0.04]]
    """
    pair = np.stack(np.broadcast_arrays(np.asarray(different, float), np.asarray(same, float)))
    # By closed testing: of the other comparisons, whichever nulls may hold. Worst are those of
    # the largest p, so with k nulls in all p is multiplied by k, or the k-th largest stands in.
    last = -np.sort(-pair.max(0), axis=-1)[..., None, :]
    count = np.arange(1, last.shape[-1] + 1)
    adjusted = (count * np.minimum(pair[..., None], last)).max(-1)
    adjusted = np.minimum(adjusted, 1)
    return adjusted[0], adjusted[1]


def benjamini_hochberg(p: ArrayLike) -> NDArray:
    """Adjusted p of m comparisons for screening (Benjamini and Hochberg, 1995).

    Of what is rejected at α, a share of at most α is expected to be false, where comparisons are
    independent or depend on one another positively (Benjamini and Yekutieli, 2001). The chance of
    some false rejection is not kept at α.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.04, 0.04]
    """
    array = np.asarray(p, dtype=float)
    order = np.argsort(-array, axis=-1)  # the largest first
    count = array.shape[-1]
    steps = np.take_along_axis(array, order, -1) * count / np.arange(count, 0, -1)
    adjusted = np.empty_like(array)
    np.put_along_axis(adjusted, order, np.minimum.accumulate(steps, axis=-1), -1)
    return np.minimum(adjusted, 1)
