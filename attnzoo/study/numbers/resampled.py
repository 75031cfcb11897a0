"""Differences over splits that share images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnzoo.study.numbers.inference import EQUAL
from attnzoo.train import require

__all__ = ["resampled_p"]


def resampled_p(differences: ArrayLike, shared: float) -> NDArray:
    """Two-sided p of "the mean difference is 0" where each difference is of a split of its own.

    Splits drawn from the same images share most of them, so their differences hang together, and
    the paired t test finds too much. Nadeau and Bengio (2003, doi:10.1023/A:1024068626366) take
    the variance of the mean by 1/n + test/train instead of 1/n. With every split the test images
    anew, it takes effect however many splits there are.

    Args:
        differences: along the last axis, one a split; two or more.
        shared: test images for each training image, test/train.
    """
    array = np.asarray(differences, dtype=float)
    n = array.shape[-1]
    mean, deviation = array.mean(-1), array.std(-1, ddof=1)
    spread = deviation > EQUAL
    error = np.where(spread, deviation, 1.0) * np.sqrt(1 / n + shared)
    p = 2 * require("scipy.stats", "scipy").t.sf(np.abs(mean) / error, n - 1)
    # Equal differences tell nothing of their spread.
    return np.where(spread, p, 1.0)
