"""Statistics beside those of baycomp, rliable and autorank, where these are installed."""

from __future__ import annotations

import numpy as np
import pytest

from attnzoo.study.numbers import improvement, profile, ranked
from attnzoo.study.numbers.equivalence import posterior
from attnzoo.study.numbers.ranks import critical_difference


@pytest.mark.parametrize("runs", [1, 2])
def test_chances_over_splits_are_baycomps(runs: int) -> None:
    baycomp = pytest.importorskip("baycomp")
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.62, 0.02, 10), rng.normal(0.6, 0.02, 10)
    gaps, folds = ours - theirs, 10 // runs
    expected = baycomp.CorrelatedTTest(theirs, ours, rope=0.01, runs=runs).probs()
    found = posterior(gaps.mean(), gaps.std(ddof=1), 10, 0.01, 1 / (folds - 1))
    assert [float(chance) for chance in found] == pytest.approx(expected, abs=1e-9)


def test_improvement_and_profiles_are_rliables() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    library = pytest.importorskip("rliable.library")
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(0.1, 1, (8, 5)), rng.normal(0, 1, (8, 5))  # seeds, backbones
    found = improvement(list(ours.T), list(theirs.T))
    assert found == pytest.approx(metrics.probability_of_improvement(ours, theirs), abs=1e-9)
    at = np.linspace(-2, 2, 9)
    expected = [library.run_score_deviation(ours, height) for height in at]
    assert profile(list(ours.T), at) == pytest.approx(expected, abs=1e-9)


def test_ranks_are_autoranks() -> None:
    autorank = pytest.importorskip("autorank")
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(2)
    scores = {name: rng.exponential(1, 12) + i / 10 for i, name in enumerate("abcd")}
    found = autorank.autorank(
        pandas.DataFrame(scores), force_mode="nonparametric", order="descending"
    )
    own = ranked(scores)
    assert own.mean == pytest.approx(dict(found.rankdf["meanrank"]), abs=1e-9)
    assert critical_difference(4, 12) == pytest.approx(found.cd, rel=1e-3)  # of a table
