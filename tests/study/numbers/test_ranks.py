"""Ranks over backbones, against scipy, scikit-posthocs' formula and Demšar's own tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attnzoo.study.numbers.corrections import holm
from attnzoo.study.numbers.ranks import Ranks, critical_difference, friedman_p, ranked


@pytest.mark.parametrize(
    ("variants", "quantile"),
    [
        (2, 1.960),
        (3, 2.343),
        (4, 2.569),
        (5, 2.728),
        (6, 2.850),
        (7, 2.949),
        (8, 3.031),
        (10, 3.164),
    ],
)
def test_critical_differences_are_demsars(variants: int, quantile: float) -> None:
    """Table 5a of Demšar (2006), for his example of 14 data sets among others."""
    for backbones in (5, 14):
        expected = quantile * np.sqrt(variants * (variants + 1) / (6 * backbones))
        assert critical_difference(variants, backbones) == pytest.approx(expected, abs=2e-3)


def test_his_example() -> None:
    """Table 6: four classifiers on 14 data sets, χ² 9.28, F 3.69, critical difference 1.25."""
    scores = np.array(
        [
            [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569],
            [0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657],
            [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
            [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625],
            [0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000],
            [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
        ]
    )  # fmt: skip
    names = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
    found = ranked(dict(zip(names, scores.T, strict=True)), plain="C4.5")
    assert found.mean["C4.5"] == pytest.approx(3.143, abs=1e-3)
    assert found.mean["C4.5+m"] == pytest.approx(2.000, abs=1e-3)
    assert found.mean["C4.5+cf"] == pytest.approx(2.893, abs=1e-3)
    assert found.mean["C4.5+m+cf"] == pytest.approx(1.964, abs=1e-3)
    assert next(iter(found.mean)) == "C4.5+m+cf"
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert found.p < 0.05
    # His z of C4.5+m+cf against C4.5, 2.416, has p 0.016.
    assert found.p_plain["C4.5+m+cf"] == pytest.approx(3 * 0.0157, abs=3e-4)


@pytest.mark.parametrize("shape", [(5, 3), (8, 4), (14, 6)])
def test_friedman_is_scipys_and_its_f(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    for scores in (rng.normal(size=shape), np.round(rng.normal(size=shape))):
        chi = stats.friedmanchisquare(*scores.T).statistic
        n, k = shape
        f = (n - 1) * chi / (n * (k - 1) - chi)
        expected = stats.f.sf(f, k - 1, (k - 1) * (n - 1))
        assert float(friedman_p(scores)) == pytest.approx(expected, abs=1e-9)


def test_alike_variants_differ_in_five_percent_of_studies() -> None:
    rng = np.random.default_rng(0)
    for shape in ((5, 3), (5, 8), (10, 4)):
        found = (friedman_p(rng.normal(size=(2000, *shape))) <= 0.05).sum()
        assert found <= stats.binom.ppf(0.995, 2000, 0.055)  # F is near, not exact, with few


def test_all_equal_or_all_agreeing() -> None:
    assert float(friedman_p(np.ones((5, 3)))) == 1
    assert float(friedman_p(np.tile([1.0, 2.0, 3.0], (5, 1)))) < 1e-9


def test_plain_is_held_against_each_by_holm() -> None:
    scores = {name: np.random.default_rng(i).normal(i / 2, 1, 9) for i, name in enumerate("abcd")}
    found = ranked(scores, plain="a")
    error = np.sqrt(4 * 5 / (6 * 9))
    p = [2 * stats.norm.sf(abs(found.mean[n] - found.mean["a"]) / error) for n in "bcd"]
    assert [found.p_plain[n] for n in "bcd"] == pytest.approx(holm(p).tolist())
    assert ranked({k: scores[k] for k in "bc"}).p_plain == {}


def test_groups_are_what_is_not_told_apart() -> None:
    mean = {"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0, "e": 4.1}
    assert Ranks(5, mean, 0.01, 1.0, {}).groups == [(1.0, 1.5), (1.5, 2.4), (4.0, 4.1)]
    assert Ranks(5, mean, 0.01, 9.0, {}).groups == [(1.0, 4.1)]
    assert Ranks(5, mean, 0.01, 0.05, {}).groups == []
