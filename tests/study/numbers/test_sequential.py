"""Looks after each seed: their bounds against published ones and against simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attnzoo.study.numbers.futility import futile, futility_bounds
from attnzoo.study.numbers.inference import paired_p
from attnzoo.study.numbers.sequential import look_bounds, sequential_p, sequential_same_p

NULL = np.random.default_rng(3).normal(size=(20_000, 20))
"""Differences of studies in which nothing differs; the rate's standard error is 0.15% at 5%."""


def p_at_each_look(values: np.ndarray, least: int) -> np.ndarray:
    return np.stack(
        [
            stats.ttest_1samp(values[:, :n], 0, axis=1).pvalue
            for n in range(least, values.shape[1] + 1)
        ],
        axis=1,
    )


@pytest.mark.parametrize(("least", "most"), [(3, 8), (5, 20), (3, 20)])
def test_looks_find_what_they_may_and_no_more(least: int, most: int) -> None:
    p = p_at_each_look(NULL[:, :most], least)
    for level in (0.05, 0.01):
        found = (p <= look_bounds(least, most, level)).any(1).mean()
        assert found == pytest.approx(level, abs=3 * np.sqrt(level / len(NULL)))


def test_bounds_of_normal_values_would_find_too_much() -> None:
    """Why they are of the t test: the same spending, with the recursion for z tests."""
    nodes, weights = np.polynomial.legendre.leggauss(201)
    bounds, spent, before = [], 0.0, None
    for n in range(5, 21):
        due = 0.05 * (n / 20) ** 1.5
        grid = np.linspace(0, 8, 4001) * np.sqrt(n)
        if before is None:
            beyond = 2 * stats.norm.sf(grid / np.sqrt(n))
        else:
            sums, chances = before
            steps = stats.norm.sf(grid[:, None] - sums) + stats.norm.cdf(-grid[:, None] - sums)
            beyond = steps @ chances
        end = np.interp(-(due - spent), -beyond, grid)
        bounds.append(2 * stats.norm.sf(end / np.sqrt(n)))
        sums = end * nodes
        if before is None:
            density = stats.norm.pdf(sums, scale=np.sqrt(n))
        else:
            density = stats.norm.pdf(sums[:, None] - before[0]) @ before[1]
        before, spent = (sums, weights * end * density), due
    found = (p_at_each_look(NULL, 5) <= bounds).any(1).mean()
    assert found > 0.05 + 2 * np.sqrt(0.05 / len(NULL))


def test_the_first_look_spends_its_share_and_one_look_all() -> None:
    assert look_bounds(5, 20, 0.05)[0] == pytest.approx(0.05 * (5 / 20) ** 1.5, rel=0.005)
    assert stats.norm.isf(look_bounds(20, 20, 0.05)[0] / 2) == pytest.approx(1.95996, abs=2e-4)


def test_p_is_the_level_that_would_have_decided() -> None:
    p = sequential_p(NULL, 5, 20)
    looks = p_at_each_look(NULL, 5)
    for level in (0.2, 0.05, 0.003):
        decided = (looks <= look_bounds(5, 20, level)).any(1)
        assert np.mean(decided == (p <= level)) > 0.999  # interpolated between levels
    for seeds in (4, 5, 12):
        assert (sequential_p(NULL[:, :seeds], 5, 20) >= p - 1e-12).all()  # it never grows
    assert (sequential_p(NULL[:, :4], 5, 20) == 1).all()


def test_one_look_is_the_t_test() -> None:
    values = NULL[:200, :8]
    expected = paired_p(values)
    found = sequential_p(values, 8, 8)
    below = expected < 0.6
    assert found[below] == pytest.approx(expected[below], rel=0.01)
    assert (found[expected > 0.71] == 1).all()


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_the_same_is_said_wrongly_in_five_percent(margin: float) -> None:
    wrong = (sequential_same_p(NULL + margin, margin, 5, 20) <= 0.05).mean()
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 / len(NULL))
    assert (sequential_same_p(NULL, 2.0, 5, 20) <= 0.05).mean() > 0.95


def test_fewer_seeds_than_at_once() -> None:
    """Looks and giving up take some 0.8 of the seeds that have the same power at once."""
    effect, fixed = 0.7493, 15.6
    first, gone = _ends(NULL + effect)
    power = (first < gone).mean()
    assert power == pytest.approx(0.788, abs=0.015)
    at_once = [(paired_p(NULL[:, :n] + effect) <= 0.05).mean() for n in (15, 16)]
    assert at_once[0] + 0.6 * (at_once[1] - at_once[0]) == pytest.approx(power, abs=0.01)
    assert 5 + np.minimum(first, gone).clip(max=15).mean() < 0.81 * fixed
    assert 5 + np.minimum(*_ends(NULL)).clip(max=15).mean() < 0.7 * fixed  # if there is nothing


def _ends(values: np.ndarray) -> list[np.ndarray]:
    p = p_at_each_look(values, 5)
    ends = (p <= look_bounds(5, 20, 0.05), p > futility_bounds(5, 20, 0.05))
    return [np.where(end.any(1), end.argmax(1), 99) for end in ends]


def test_what_is_given_up_was_not_decided_before() -> None:
    decided, gone = _ends(NULL[:2000])
    p = p_at_each_look(NULL[:2000], 5)
    any_gone = (p > futility_bounds(5, 20, 0.05)).any(1)
    hits = (p <= look_bounds(5, 20, 0.05)).any(1)
    expected = any_gone & ~(hits & (decided < gone))
    assert (futile(NULL[:2000], 5, 20, 0.05) == expected).all()
    later = np.array([futile(NULL[:2000, :n], 5, 20, 0.05) for n in range(5, 21)])
    assert (np.diff(later.astype(int), axis=0) >= 0).all()  # it stays so
    assert not futile(NULL[0, :4], 5, 20, 0.05)


def test_equal_differences_decide_nothing() -> None:
    assert sequential_p(np.full(10, 0.02), 5, 20) == 1
    assert sequential_same_p(np.zeros(10), 0.01, 5, 20) == 1
