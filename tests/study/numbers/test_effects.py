"""Effect sizes and the noncentral t distribution, against scipy's and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attnzoo.study.numbers.effects import effect_size
from attnzoo.study.numbers.quadrature import deviations, noncentral_t


@pytest.mark.parametrize("free", [1, 2, 4, 9, 99, 999])
@pytest.mark.parametrize("t", [-3.0, 0.0, 0.4, 2.0, 7.5])
def test_noncentral_t_is_scipys(free: int, t: float) -> None:
    for shift in (-2.0, 0.0, 1.5, 6.0):
        expected = stats.nct.cdf(t, free, shift)
        if not np.isnan(expected):  # far out in a tail
            assert noncentral_t(t, free, shift) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("free", [1, 3, 30])
def test_where_scipy_has_no_number_ours_is_counted(free: int) -> None:
    rng = np.random.default_rng(free)
    t, shift = 30.0, -20.0 if free == 1 else 20.0
    drawn = rng.normal(shift, 1, 200_000) / np.sqrt(rng.chisquare(free, 200_000) / free)
    assert noncentral_t(t, free, shift) == pytest.approx((drawn <= t).mean(), abs=0.005)


def test_weights_are_those_of_an_average() -> None:
    for free in (1, 2, 10, 500):
        nodes, weights = deviations(free)
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert weights @ nodes**2 == pytest.approx(1, abs=1e-12)  # s² is unbiased
        part = deviations(free, largest=1.0)[1].sum()
        assert part == pytest.approx(stats.chi2.cdf(free, free), abs=1e-10)


@pytest.mark.parametrize(("t", "seeds"), [(2.0, 5), (-3.0, 10), (12.0, 20), (0.5, 2), (300.0, 3)])
def test_the_interval_ends_where_t_would_be_in_a_tail(t: float, seeds: int) -> None:
    effect, low, high = effect_size(t, seeds)
    assert effect == pytest.approx(t / seeds**0.5)
    for end, tail in ((low, 0.975), (high, 0.025)):
        expected = stats.nct.cdf(t, seeds - 1, end * seeds**0.5)
        assert expected == pytest.approx(tail, abs=1e-9)


@pytest.mark.parametrize("true", [0.0, 0.8, 2.0])
def test_the_interval_holds_the_truth_in_95_percent(true: float) -> None:
    values = np.random.default_rng(1).normal(true, 1, size=(300, 5))
    t = values.mean(-1) / values.std(-1, ddof=1) * 5**0.5
    held = [low <= true <= high for _, low, high in (effect_size(float(one), 5) for one in t)]
    assert 0.917 <= np.mean(held) <= 0.98
