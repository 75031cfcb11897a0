"""Whether two are the same: against statsmodels, integrals written out, and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from attnzoo.study.numbers.equivalence import posterior, same_p, same_power, seeds_for_same


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_statsmodels_tests_alike(seeds: int) -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    rng = np.random.default_rng(seeds)
    for margin in (0.1, 1.0):
        ours, theirs = rng.normal(size=(2, seeds))
        expected = weightstats.ttost_paired(ours, theirs, -margin, margin)[0]
        assert float(same_p(ours - theirs, margin)) == pytest.approx(expected, abs=1e-9)


def test_many_comparisons_at_once() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 6))
    values[1, 2] = 0.25
    each = [[float(same_p(one, 0.5)) for one in row] for row in values]
    assert same_p(values, 0.5) == pytest.approx(np.array(each))


def test_equal_differences_are_the_same_by_permutation_alone() -> None:
    assert float(same_p([0.001] * 5, 0.005)) == 1 / 32  # the smallest of a one-sided test
    assert float(same_p([0.0] * 3, 0.005)) == 1 / 8
    assert float(same_p([0.005] * 5, 0.005)) == 1
    assert float(same_p([0.02] * 5, 0.005)) == 1


def test_the_posterior_is_what_it_is_drawn_from() -> None:
    """σ² from its posterior, a scaled inverse χ², and the mean given σ."""
    mean, deviation, seeds, margin = 0.004, 0.01, 6, 0.005
    rng = np.random.default_rng(0)
    sigma = deviation * np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=400_000))
    drawn = rng.normal(mean, sigma / np.sqrt(seeds))
    counted = [(drawn < -margin).mean(), (abs(drawn) <= margin).mean(), (drawn > margin).mean()]
    found = [float(chance) for chance in posterior(mean, deviation, seeds, margin)]
    assert found == pytest.approx(counted, abs=0.003)
    assert sum(found) == pytest.approx(1, abs=1e-12)


def test_the_posterior_mirrors_the_tests() -> None:
    """Beyond the nearer margin lies just the p of the test there (Bayes and Student agree)."""
    values = np.random.default_rng(2).normal(0.3, 1, size=8)
    told = posterior(values.mean(), values.std(ddof=1), 8, 0.9)
    assert float(max(told[0], told[2])) == pytest.approx(float(same_p(values, 0.9)), abs=1e-12)


@pytest.mark.parametrize(
    ("seeds", "margin", "alpha"),
    [(2, 3.0, 0.05), (5, 1.0, 0.05), (20, 0.7, 0.01), (800, 0.1, 0.004), (3, 20.0, 0.05)],
)
def test_power_is_an_integral_over_the_deviation(seeds: int, margin: float, alpha: float) -> None:
    free = seeds - 1
    end, quantile = margin * seeds**0.5, stats.t.isf(alpha, free)

    def integrand(u: float) -> float:
        density = stats.chi.pdf(u * free**0.5, free) * free**0.5
        return density * (2 * stats.norm.cdf(end - quantile * u) - 1)

    top = min(end / quantile, 12.0)
    expected = quad(integrand, 0, top, points=[min(1.0, top)], epsabs=1e-13, limit=500)[0]
    assert same_power(1.0, margin, seeds, alpha) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_the_seeds_asked_for_have_the_power_promised(alpha: float) -> None:
    needed = seeds_for_same(0.012, 0.01, alpha)
    assert needed is not None
    rng = np.random.default_rng(0)
    for seeds, enough in ((needed, True), (needed - 1, False)):
        found = same_p(rng.normal(0, 0.012, size=(20_000, seeds)), 0.01) <= alpha
        power = same_power(0.012, 0.01, seeds, alpha)
        assert found.mean() == pytest.approx(power, abs=0.012)
        assert (power >= 0.8) == enough


def test_how_many_seeds_is_unknown_or_too_many() -> None:
    assert seeds_for_same(0.0, 0.01) is None
    assert seeds_for_same(1.0, 0.01) is None
    assert seeds_for_same(1e-6, 0.01) == 2
