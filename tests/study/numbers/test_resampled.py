"""Splits that share images: the correction by hand, and on real data that is split anew."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attnzoo.study.numbers.inference import paired_p
from attnzoo.study.numbers.resampled import resampled_p


def test_the_variance_is_larger_by_the_share_of_the_test_images() -> None:
    values = np.array([0.03, 0.01, 0.06, -0.01, 0.02])
    t = values.mean() / np.sqrt(values.var(ddof=1) * (1 / 5 + 200 / 800))
    assert float(resampled_p(values, 200 / 800)) == pytest.approx(2 * stats.t.sf(t, 4))
    assert resampled_p(values, 1e-9) == pytest.approx(paired_p(values), abs=1e-6)


def test_many_at_once_and_equal_ones() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6))
    values[2] = 0.1
    each = [float(resampled_p(row, 10 / 90)) for row in values]
    assert resampled_p(values, 10 / 90) == pytest.approx(np.array(each))
    assert each[2] == 1


def right(images: np.ndarray, labels: np.ndarray, fit: np.ndarray, held: np.ndarray) -> float:
    """Share of held images that a linear model has right, least squares with a ridge."""
    x = np.column_stack([images[fit], np.ones(len(fit))])
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ np.eye(10)[labels[fit]])
    scores = np.column_stack([images[held], np.ones(len(held))]) @ weights
    return (scores.argmax(1) == labels[held]).mean()


def test_splits_of_real_images_find_too_much_without_it() -> None:
    """Linear models of digits that see either half of the pixels; studies of 200 images each.

    The difference that is true of all images is taken off, so what is found is found wrongly.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images / 16
    rng = np.random.default_rng(0)
    halves = rng.permutation(64).reshape(2, 32)
    studies, splits, train, test = 300, 10, 160, 40
    values = np.zeros((studies, splits))
    for study in range(studies):
        pool = rng.choice(len(images), train + test, replace=False)
        for split in range(splits):
            fit, held = np.split(rng.permutation(pool), [train])
            ours, theirs = (right(images[:, half], labels, fit, held) for half in halves)
            values[study, split] = ours - theirs
    values -= values.mean()
    assert (paired_p(values) <= 0.05).mean() > 0.1
    wrong = (resampled_p(values, test / train) <= 0.05).sum()
    assert wrong <= stats.binom.ppf(0.995, studies, 0.05)
