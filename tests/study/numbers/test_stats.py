"""Statistics, against formulas written out."""

from __future__ import annotations

import math

import pytest
from scipy.stats import t as student
from studies import result

from attnzoo.study import paired_difference, summarise
from attnzoo.study.numbers.stats import sampling_error
from attnzoo.train import RunResult


def test_the_paired_interval_is_students() -> None:
    plain, variant = {0: 0.50, 1: 0.60, 2: 0.40, 3: 0.55}, {0: 0.53, 1: 0.61, 2: 0.46, 4: 0.9}
    difference = paired_difference(plain, variant)
    values = [0.03, 0.01, 0.06]  # seeds 0, 1, 2: those that both have
    mean = sum(values) / 3
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
    half = student.ppf(0.975, 2) * deviation / math.sqrt(3)
    assert difference.seeds == 3
    assert difference.mean == pytest.approx(mean)
    assert (difference.low, difference.high) == pytest.approx((mean - half, mean + half))


def test_one_seed_has_a_difference_but_no_interval() -> None:
    difference = paired_difference({0: 0.5}, {0: 0.6})
    assert difference.mean == pytest.approx(0.1)
    assert difference.low is difference.high is None


def test_no_seed_in_common_is_no_difference() -> None:
    assert paired_difference({0: 0.5}, {1: 0.6}) is None


def test_equal_differences_have_an_interval_without_width() -> None:
    difference = paired_difference({0: 0.5, 1: 0.25}, {0: 0.75, 1: 0.5})
    assert (difference.low, difference.mean, difference.high) == (0.25, 0.25, 0.25)


def test_summaries() -> None:
    plain, se = summarise(
        [
            result("plain", 0, 0.5),
            result("se", 0, 0.6),
            result("plain", 1, 0.7),
            result("se", 1, 0.9),
        ]
    )
    assert (plain.plain, plain.seeds, plain.difference) == (True, 2, None)
    assert plain.score == pytest.approx(0.6)
    assert plain.deviation == pytest.approx(math.sqrt(0.02))
    assert se.difference.mean == pytest.approx(0.15)
    assert (se.added_parameters, se.added_macs, se.sites, se.gamma) == (100, 50, 3, 0.25)
    assert se.seconds == 2.5


def test_a_diverged_seed_is_counted_and_left_out_of_the_mean() -> None:
    _, se = summarise([result("plain", 0, 0.5), result("se", 0, None), result("se", 1, 0.4)])
    assert (se.seeds, se.diverged, se.score, se.deviation) == (1, 1, 0.4, None)
    assert se.difference is None
    lone = summarise([result("se", 0, None)])[0]
    assert (lone.score, lone.added_parameters) == (None, None)


def test_sampling_error_is_binomial() -> None:
    assert sampling_error(0.5, 400) == pytest.approx(0.025)


# Verdicts


def study(**variants: list[float | None]) -> list[RunResult]:
    return [
        result(variant, seed, top1)
        for variant, values in variants.items()
        for seed, top1 in enumerate(values)
    ]


PLAIN = [0.50, 0.52, 0.51, 0.53, 0.50]


def test_verdicts() -> None:
    rows = summarise(
        study(
            plain=PLAIN,
            good=[0.60, 0.61, 0.61, 0.63, 0.61],
            bad=[0.40, 0.43, 0.41, 0.42, 0.40],
            same=[0.51, 0.50, 0.52, 0.52, 0.51],
        )
    )
    assert [row.difference and row.difference.verdict for row in rows] == [
        *(None, "better", "worse", "no evidence"),
    ]
    good = rows[1].difference
    assert good.p_corrected == pytest.approx(3 * good.p)
    assert good.p_permutation == 0.0625  # which decides nothing
    # 0.10, 0.09, 0.10, 0.10, 0.11: deviation √(0.0002 / 4), t quantile of 4 degrees 2.776
    half = 2.776 * math.sqrt(0.0002 / 4 / 5)
    assert (good.low, good.high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-5)


def test_holm_is_over_the_whole_study() -> None:
    lone = [0.52, 0.53, 0.53, 0.54, 0.53]
    alone = summarise(study(plain=PLAIN, se=lone))[1].difference
    noise = {
        f"noise{k}": [p + 0.02 * ((k + s) % 3 - 1) for s, p in enumerate(PLAIN)] for k in range(6)
    }
    among = summarise(study(plain=PLAIN, se=lone, **noise))[1].difference
    assert (alone.verdict, among.verdict) == ("better", "no evidence")
    assert (alone.p, among.p_corrected) == (among.p, pytest.approx(7 * alone.p))
    assert among.more_seeds > alone.more_seeds


def test_attention_is_compared_with_its_control_too() -> None:
    values = [p + 0.1 + 0.001 * s for s, p in enumerate(PLAIN)]
    rows = summarise(study(plain=PLAIN, se=values, conv=values), controls={"se": "conv"})
    se, conv = rows[1:]
    assert se.difference.verdict == conv.difference.verdict == "better"
    assert (se.beyond.baseline, se.beyond.mean, se.beyond.verdict) == ("conv", 0, "no evidence")
    assert conv.beyond is None


def test_one_pair_has_no_verdict() -> None:
    row = summarise(study(plain=[0.5], se=[0.9]))[1]
    assert (row.low, row.high) == (None, None)
    assert row.difference.p is row.difference.p_corrected is row.difference.verdict is None
    assert row.difference.more_seeds is None


def test_differences_that_are_all_equal_are_no_proof() -> None:
    # 0.52 - 0.50 and 0.72 - 0.70 differ in the last digit, and t would be astronomic.
    row = summarise(study(plain=[0.5, 0.7, 0.6], se=[0.52, 0.72, 0.62]))[1]
    assert row.difference.p == 0.25
    assert (row.difference.verdict, row.difference.more_seeds) == ("no evidence", None)
    same = summarise(study(plain=[0.5, 0.6], se=[0.5, 0.6]))[1].difference
    assert (same.p, same.p_permutation, same.verdict) == (1, 1, "no evidence")


def test_what_diverges_is_not_called_better() -> None:
    good = [0.60, 0.61, 0.61, 0.63, 0.61]
    without = summarise(study(plain=PLAIN, se=[None, *good[1:]]))[1]
    assert without.difference.p_corrected < 0.05
    assert (without.difference.seeds, without.difference.verdict) == (4, "no evidence")
    # Nor is plain, where it is plain that diverges.
    saved = summarise(study(plain=[None, *good[1:]], se=PLAIN))[1]
    assert saved.difference.p_corrected < 0.05
    assert saved.difference.verdict == "no evidence"
    # It may be called worse.
    assert summarise(study(plain=good, se=[None, *PLAIN[1:]]))[1].difference.verdict == "worse"
    assert summarise(study(plain=PLAIN, se=[None] * 5))[1].difference is None


def test_what_is_no_number_is_no_pair() -> None:
    difference = paired_difference({0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.6, 1: math.nan, 2: 0.7})
    assert (difference.seeds, difference.mean) == (2, pytest.approx(0.15))
    assert paired_difference({0: math.nan}, {0: 0.5}) is None


def test_the_mean_of_a_variant_has_an_interval() -> None:
    row = summarise(study(plain=PLAIN))[0]
    half = student.ppf(0.975, 4) * row.deviation / math.sqrt(5)
    assert (row.low, row.high) == pytest.approx((row.score - half, row.score + half))


def test_of_several_plain_networks_each_variant_has_its_own() -> None:
    nothing = {"policy": "", "block": "", "sites": 0, "parameters": 1000, "macs": 5000}
    runs = [
        result("plain", 0, 0.5),
        result("se", 0, 0.6),
        result("plain lr=1", 0, 0.2, **nothing),
        result("se lr=1", 0, 0.4),
    ]
    rows = summarise(runs, baselines={"se": "plain", "se lr=1": "plain lr=1"})
    found = {row.variant: row.difference for row in rows}
    assert found["plain"] is found["plain lr=1"] is None
    assert (found["se"].baseline, found["se"].mean) == ("plain", pytest.approx(0.1))
    assert (found["se lr=1"].baseline, found["se lr=1"].mean) == ("plain lr=1", pytest.approx(0.2))
