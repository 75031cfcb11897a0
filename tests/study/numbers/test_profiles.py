"""Chance of improvement and performance profiles, against scipy and counts written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attnzoo.study.numbers.profiles import (
    improvement,
    improvement_interval,
    profile,
    profile_band,
)

RNG = np.random.default_rng(0)
OURS = [RNG.normal(0.4, 1, size=n) for n in (5, 5, 7)]
THEIRS = [RNG.normal(0, 1, size=n) for n in (5, 5, 7)]


def test_improvement_is_the_mean_of_mann_and_whitneys() -> None:
    shares = [
        stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
        for a, b in zip(OURS, THEIRS, strict=True)
    ]
    assert improvement(OURS, THEIRS) == pytest.approx(np.mean(shares), abs=1e-12)
    assert improvement(OURS, OURS) == 0.5
    assert improvement([[1, 2]], [[0, 0]]) == 1
    assert improvement([[1, 1]], [[1, 2]]) == 0.25  # a tie counts half


def test_its_interval_is_of_seeds_drawn_again() -> None:
    low, high = improvement_interval(OURS, THEIRS)
    assert 0 <= low <= improvement(OURS, THEIRS) <= high <= 1
    assert (low, high) == improvement_interval(OURS, THEIRS)
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(2000):
        taken = [rng.integers(len(a), size=len(a)) for a in OURS]
        pairs = [[values[i][t] for i, t in enumerate(taken)] for values in (OURS, THEIRS)]
        drawn.append(improvement(*pairs))
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)


def test_a_profile_counts_each_backbone_alike() -> None:
    values = [np.array([1.0, 2.0]), np.array([0.0, 1.0, 2.0, 3.0])]
    assert profile(values, [-1, 0.5, 1.5, 3]).tolist() == [1, 0.875, 0.5, 0]


def test_the_band_holds_the_profile() -> None:
    at = np.linspace(-2, 2, 9)
    low, high = profile_band(OURS, at)
    own = profile(OURS, at)
    assert (low <= own + 1e-12).all()
    assert (own <= high + 1e-12).all()
    assert (high - low).max() > 0.1
    alone = profile_band([np.full(5, 0.3)], at)
    assert np.array_equal(*alone)  # all runs alike: nothing to draw


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_holds_the_truth_often(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    truth, held = stats.norm.cdf(0.5 / np.sqrt(2)), 0
    for _ in range(150):
        ours, theirs = rng.normal(0.5, 1, (6, seeds)), rng.normal(0, 1, (6, seeds))
        low, high = improvement_interval(list(ours), list(theirs))
        held += low <= truth <= high
    assert held >= 0.85 * 150  # a percentile bootstrap of few seeds is a little narrow
