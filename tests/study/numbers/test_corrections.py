"""Corrections, against statsmodels, closed testing written out, and simulated studies."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from attnzoo.study.numbers.corrections import benjamini_hochberg, holm, shared
from attnzoo.study.numbers.equivalence import same_p
from attnzoo.study.numbers.inference import paired_p

STUDIES = 2000

MOST = stats.binom.interval(0.99, STUDIES, 0.05)[1]
"""Studies of 2,000 with an error, where the rate is 5%."""


def test_holm_on_a_worked_example() -> None:
    # Holm's steps: 0.005·4 = 0.02, 0.01·3 = 0.03, 0.03·2 = 0.06, and 0.04·1, raised to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == pytest.approx([1, 1])
    assert holm([0.2]) == pytest.approx([0.2])


def test_holm_works_on_many_studies_at_once() -> None:
    many = np.random.default_rng(0).uniform(size=(50, 6))
    assert np.array_equal(holm(many), np.stack([holm(one) for one in many]))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_statsmodels_corrects_alike(count: int) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for p in np.random.default_rng(count).uniform(size=(20, count)) ** 3:
        for ours, theirs in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
            expected = multitest.multipletests(p, method=theirs)[1]
            assert ours(p) == pytest.approx(expected, abs=1e-12)


def closed(different: np.ndarray, same: np.ndarray) -> list[np.ndarray]:
    """Adjusted p by testing every set of nulls that can hold together, by Bonferroni."""
    count = len(different)
    adjusted = [np.zeros(count), np.zeros(count)]
    for state in itertools.product((None, 0, 1), repeat=count):
        held = [(i, kind) for i, kind in enumerate(state) if kind is not None]
        if held:
            p = len(held) * min((different, same)[kind][i] for i, kind in held)
            for i, kind in held:
                adjusted[kind][i] = max(adjusted[kind][i], min(p, 1))
    return adjusted


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_sharing_is_closed_testing(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20):
        different, same = rng.uniform(size=(2, count)) ** rng.uniform(0.5, 4)
        for ours, theirs in zip(shared(different, same), closed(different, same), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-12)


def test_sharing_one_null_is_holms() -> None:
    many = np.random.default_rng(0).uniform(size=(50, 6)) ** 2
    for found in shared(many, many):
        assert found == pytest.approx(holm(many), abs=1e-12)


# Simulated studies

Correct = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def errors(true: np.ndarray, seeds: int, margin: float, correct: Correct = shared) -> int:
    """Studies of 2,000 that say something wrong, better, worse or same, of differences `true`."""
    rng = np.random.default_rng(seeds)
    values = true[:, None] + rng.normal(size=(STUDIES, len(true), seeds))
    different, same = correct(paired_p(values), same_p(values, margin))
    wrong = (different <= 0.05) & ((true == 0) | (values.mean(-1) * true < 0))
    wrong |= (same <= 0.05) & (np.abs(true) >= margin - 1e-12)
    return int(wrong.any(-1).sum())


@pytest.mark.parametrize("seeds", [5, 10, 40])
@pytest.mark.parametrize("at", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 6])
def test_at_zero_and_at_the_margin_five_percent_are_wrong(
    seeds: int, at: float, count: int
) -> None:
    margin = 4 / np.sqrt(seeds)  # where either verdict is often come to
    assert errors(np.full(count, at * margin), seeds, margin) <= MOST


@pytest.mark.parametrize("seeds", [5, 10, 40])
def test_some_the_same_and_some_at_the_margin(seeds: int) -> None:
    for errors_of_a_mean in (4, 6):
        margin = errors_of_a_mean / np.sqrt(seeds)
        assert errors(margin * np.array([0, 0, 0, 1, -1, 1]), seeds, margin) <= MOST


def test_corrected_apart_more_would_be_wrong() -> None:
    """Why the two nulls share: where some are the same and some at the margin, errors add up."""
    seeds, margin = 40, 6 / np.sqrt(40)
    true = margin * np.array([0, 0, 0, 1, 1, 1])

    def apart(different: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return holm(different), holm(same)

    assert errors(true, seeds, margin, apart) > MOST
    assert errors(true, seeds, margin) <= MOST


def test_handing_on_as_holm_does_would_be_wrong() -> None:
    """Why a comparison that is called better still counts: it might have been called the same."""

    def handing_on(different: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stepped, first = holm(np.minimum(different, same)), different <= same
        return np.where(first, stepped, 1.0), np.where(first, 1.0, stepped)

    seeds, margin = 200, 4 / np.sqrt(200)
    true = margin * np.array([1.0, 0.0])
    assert errors(true, seeds, margin, handing_on) > MOST
    assert errors(true, seeds, margin) <= MOST


def test_screening_keeps_the_share_of_wrong_ones() -> None:
    rng = np.random.default_rng(0)
    true = np.repeat([0.0, 1.5], [30, 10])
    values = true[:, None] + rng.normal(size=(STUDIES, 40, 8))
    p = paired_p(values)
    found = benjamini_hochberg(p) <= 0.05
    wrong = (found & (true == 0)).sum(-1) / np.maximum(found.sum(-1), 1)
    assert wrong.mean() == pytest.approx(0.05 * 30 / 40, abs=0.005)
    assert (found & (true == 0)).any(-1).mean() > 0.2  # which is no family-wise control
    assert found[:, true > 0].mean() > (holm(p) <= 0.05)[:, true > 0].mean() + 0.1
