"""Statistics, against formulas written out."""

from __future__ import annotations

import math

import pytest
from scipy.stats import t as student

from attnzoo.study import paired_difference, summarise
from attnzoo.study.stats import sampling_error
from attnzoo.train import RunResult


def result(variant: str, seed: int, top1: float | None, **changes: object) -> RunResult:
    values = {
        "backbone": "net",
        "variant": variant,
        "policy": "" if variant == "plain" else "auto",
        "block": "" if variant == "plain" else "se",
        "start": "identity",
        "seed": seed,
        "status": "finished" if top1 is not None else "diverged",
        "message": "",
        "top1": top1,
        "test_loss": 1.0,
        "sites": 0 if variant == "plain" else 3,
        "places": "" if variant == "plain" else "pre-pool",
        "parameters": 1000 if variant == "plain" else 1100,
        "macs": 5000 if variant == "plain" else 5050,
        "activation_bytes": 1,
        "gamma": None if variant == "plain" else 0.25,
        "epochs": 1,
        "seconds": 2.0 + seed,
        "train_seconds": 1.0,
        "images_per_second": 1.0,
        "backbone_hash": "",
        "device": "cpu",
        "versions": {},
    }
    return RunResult(**{**values, **changes})


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
    assert plain.top1 == pytest.approx(0.6)
    assert plain.deviation == pytest.approx(math.sqrt(0.02))
    assert se.difference.mean == pytest.approx(0.15)
    assert (se.added_parameters, se.added_macs, se.sites, se.gamma) == (100, 50, 3, 0.25)
    assert se.seconds == 2.5


def test_a_diverged_seed_is_counted_and_left_out_of_the_mean() -> None:
    _, se = summarise([result("plain", 0, 0.5), result("se", 0, None), result("se", 1, 0.4)])
    assert (se.seeds, se.diverged, se.top1, se.deviation) == (1, 1, 0.4, None)
    assert se.difference is None
    lone = summarise([result("se", 0, None)])[0]
    assert (lone.top1, lone.added_parameters) == (None, None)


def test_sampling_error_is_binomial() -> None:
    assert sampling_error(0.5, 400) == pytest.approx(0.025)
