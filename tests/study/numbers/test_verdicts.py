"""Verdicts with a margin, and under another correction."""

from __future__ import annotations

import math

import pytest
from studies import result

from attnzoo.study import Difference, Rules, paired_difference, summarise
from attnzoo.study.numbers.effects import effect_size
from attnzoo.study.numbers.equivalence import posterior, same_p, seeds_for_same
from attnzoo.train import RunResult

PLAIN = [0.50, 0.52, 0.51, 0.53, 0.50, 0.51]
NOISE = [0.001, -0.002, 0.0, 0.002, -0.001, 0.001]
ALIKE = [top1 + noise for top1, noise in zip(PLAIN, NOISE, strict=True)]
SLIGHT = [top1 + 0.002 + noise / 4 for top1, noise in zip(PLAIN, NOISE, strict=True)]
GOOD = [top1 + 0.05 + noise for top1, noise in zip(PLAIN, NOISE, strict=True)]
WILD = [top1 + 20 * noise for top1, noise in zip(PLAIN, NOISE, strict=True)]


def study(**variants: list[float | None]) -> list[RunResult]:
    return [
        result(variant, seed, top1)
        for variant, values in variants.items()
        for seed, top1 in enumerate(values)
    ]


HALF = Rules(margin=0.005)


def found(rules: Rules = HALF, **variants: list[float | None]) -> list[Difference]:
    rows = summarise(study(plain=PLAIN, **variants), rules=rules)
    return [row.difference for row in rows if row.difference]


def test_the_same_is_said_where_it_is_shown() -> None:
    told = found(alike=ALIKE, good=GOOD, wild=WILD, slight=SLIGHT)
    assert [d.verdict for d in told] == ["same", "better", "no evidence", "better"]
    assert [d.is_small for d in told] == [False, False, False, True]


def test_without_a_margin_nothing_is_the_same() -> None:
    (alone,) = found(Rules(), alike=ALIKE)
    assert alone.verdict == "no evidence"
    assert alone.margin is alone.p_same is alone.p_same_corrected is alone.more_for_same is None
    assert alone.probability_same is None


def test_a_difference_has_all_that_a_paper_wants() -> None:
    (alone,) = found(wild=WILD)
    values = [20 * noise for noise in NOISE]
    assert alone.p_same == pytest.approx(float(same_p(values, 0.005)))
    told = (alone.probability_worse, alone.probability_same, alone.probability_better)
    expected = posterior(alone.mean, alone.deviation, 6, 0.005)
    assert told == pytest.approx([float(chance) for chance in expected])
    t = alone.mean / alone.deviation * math.sqrt(6)
    sizes = (alone.effect, alone.effect_low, alone.effect_high)
    assert sizes == pytest.approx(effect_size(t, 6))
    assert alone.more_for_same == seeds_for_same(alone.deviation, 0.005, 0.05) - 6


def test_both_kinds_share_the_five_percent() -> None:
    told = found(alike=ALIKE, good=GOOD, wild=WILD)
    alike, good, wild = told
    assert alike.p_same_corrected == pytest.approx(3 * alike.p_same)
    assert good.p_corrected == pytest.approx(3 * good.p)  # Holm would not charge less either
    # The second smallest: Holm would multiply by 2, but what is good may yet be called the same.
    assert found(Rules(), alike=ALIKE, good=GOOD, wild=WILD)[2].p_corrected <= wild.p_corrected


def test_screening_corrects_each_kind_by_itself() -> None:
    told = found(Rules(margin=0.005, correction="fdr"), alike=ALIKE, good=GOOD, wild=WILD)
    assert [d.verdict for d in told] == ["same", "better", "no evidence"]
    assert told[1].p_corrected == pytest.approx(3 * told[1].p)
    assert told[0].p_same_corrected == pytest.approx(3 * told[0].p_same)


def test_what_diverges_is_not_called_the_same() -> None:
    (lost,) = found(alike=[None, *ALIKE[1:]])
    assert (lost.p_same_corrected <= 0.05, lost.verdict) == (True, "no evidence")
    rows = summarise(study(plain=[None, *PLAIN[1:]], alike=ALIKE), rules=Rules(margin=0.005))
    assert rows[1].difference.verdict == "no evidence"


def test_differences_that_are_all_equal_have_no_spread() -> None:
    (equal,) = found(equal=[top1 + 0.001 for top1 in PLAIN])
    assert (equal.p, equal.p_same) == (2 / 64, 1 / 64)
    assert (equal.effect, equal.probability_same, equal.more_for_same) == (None, None, None)
    assert (equal.verdict, equal.is_small) == ("better", True)


def test_one_pair_has_a_difference_alone() -> None:
    alone = paired_difference({0: 0.5}, {0: 0.6}, margin=0.005)
    assert alone.p_same is alone.effect is alone.probability_same is None
