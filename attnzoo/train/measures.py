"""Measures of predictions, each a number: shares from 0 to 1, and nats.

All but the calibration error can be taken of images that count more than once, or not at all,
which is what resampling them is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnzoo.train.predictions import Predictions

__all__ = ["MEASURES", "balanced", "calibration_error", "confusion", "macro_f1", "nll", "top1"]

BINS = 15


def top1(found: Predictions, weights: ArrayLike | None = None) -> NDArray:
    """Share of the images that are right; `weights` of images along the last axis."""
    return _mean(found.right, found, weights)


def nll(found: Predictions, weights: ArrayLike | None = None) -> NDArray:
    """Negative log-likelihood: mean cross-entropy, in nats; lower is better."""
    return _mean(-found.log_probability, found, weights)


def balanced(found: Predictions, weights: ArrayLike | None = None) -> NDArray:
    """Mean over the classes that have images of the share of these that are right."""
    right, there, _ = _counts(found, weights)
    return _over_classes(right, there, there > 0)


def macro_f1(found: Predictions, weights: ArrayLike | None = None) -> NDArray:
    """Mean over the classes of F1, 2·right / (images of it + images called it).

    As scikit-learn has it: over the classes that have images or are predicted.
    """
    right, there, called = _counts(found, weights)
    both = there + called
    return _over_classes(2 * right, both, both > 0)


def calibration_error(found: Predictions, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence from the share that is right.

    Over bins of equal width in confidence, weighted by their images (Guo et al., 2017,
    arXiv:1706.04599).
    """
    place = np.minimum((found.confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, found.right - found.confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(place))


def confusion(found: Predictions) -> NDArray[np.int64]:
    """`(K, K)` images: a row a class that is right, a column a class that is predicted."""
    pairs = found.labels * found.classes + found.predicted
    return np.bincount(pairs, minlength=found.classes**2).reshape(found.classes, found.classes)


MEASURES = {"top1": top1, "balanced": balanced, "macro_f1": macro_f1, "nll": nll}
"""What verdicts can be on."""


def _mean(values: NDArray, found: Predictions, weights: ArrayLike | None) -> NDArray:
    weighted = np.ones(len(found.labels)) if weights is None else np.asarray(weights)
    return weighted @ values.astype(float) / weighted.sum(-1)


def _counts(found: Predictions, weights: ArrayLike | None) -> tuple[NDArray, NDArray, NDArray]:
    """By class, along the last axis: images that are right, are of it, are called it."""
    weighted = np.ones(len(found.labels)) if weights is None else np.asarray(weights)
    return (
        _by_class(weighted * found.right, found.labels, found.classes),
        _by_class(weighted, found.labels, found.classes),
        _by_class(weighted, found.predicted, found.classes),
    )


def _by_class(weights: NDArray, which: NDArray, classes: int) -> NDArray:
    """Sums of the weights of each class, along the last axis."""
    order = np.argsort(which, kind="stable")
    there, starts = np.unique(which[order], return_index=True)
    sums = np.zeros((*weights.shape[:-1], classes))
    sums[..., there] = np.add.reduceat(weights[..., order], starts, axis=-1)
    return sums


def _over_classes(part: NDArray, whole: NDArray, counts: NDArray) -> NDArray:
    """Mean of part/whole over the classes that count."""
    shares = np.where(counts, part / np.where(counts, whole, 1), 0)
    return shares.sum(-1) / counts.sum(-1)
