"""The mathematics of comparisons: worked by hand, and on simulated studies whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from attnzoo.study import summarise
from attnzoo.study.numbers.corrections import holm
from attnzoo.study.numbers.inference import (
    mean_interval,
    paired_p,
    permutation_p,
    seeds_needed,
)

STUDIES = 2000


# By hand


def test_the_paired_test_is_students() -> None:
    values = [0.03, 0.01, 0.06, -0.01]
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    t = mean / (deviation / math.sqrt(4))
    assert float(paired_p(values)) == pytest.approx(2 * stats.t.sf(t, 3))
    low, high = mean_interval(values)
    half = stats.t.ppf(0.975, 3) * deviation / 2
    assert (low, high) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize("values", [[0.03, 0.01, 0.06, -0.02], [0.1, -0.1, 0.05], [0.2] * 5])
def test_the_permutation_test_is_a_count_of_signs(values: list[float]) -> None:
    signs = itertools.product([1, -1], repeat=len(values))
    sums = [sum(s * v for s, v in zip(sign, values, strict=True)) for sign in signs]
    extreme = sum(abs(total) >= abs(sum(values)) - 1e-12 for total in sums)
    assert permutation_p(values) == pytest.approx(extreme / len(sums))


@pytest.mark.parametrize(("seeds", "smallest"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_permutation_p(seeds: int, smallest: float) -> None:
    values = 0.01 * np.arange(1, seeds + 1)
    assert permutation_p(values) == smallest
    equal = 0.5 + np.full(seeds, 0.1) - np.linspace(0.5, 0.5 + 1e-15, seeds)
    assert float(paired_p(equal)) == smallest  # t would be infinite, out of rounding errors


def test_many_seeds_are_permuted_at_random_and_the_same_way_twice() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.02, size=20)
    assert permutation_p(values) == permutation_p(values)
    assert permutation_p(values) == pytest.approx(float(paired_p(values)), abs=0.02)


def test_no_difference_at_all() -> None:
    assert float(paired_p([0.0, 0.0, 0.0])) == 1
    assert permutation_p([0.0, 0.0, 0.0]) == 1
    assert [float(end) for end in mean_interval([0.0, 0.0])] == [0, 0]


def test_seeds_needed_on_textbook_values() -> None:
    # d = 0.5, α = 0.05 two-sided, power 0.8: 34 pairs (Cohen, 1988; G*Power)
    assert seeds_needed(0.02, 0.01) == 34
    assert seeds_needed(0.01, 0.01) == 10
    assert seeds_needed(0.02, 0.01, alpha=0.01) == 51
    assert seeds_needed(1e-6, 0.01) == 2
    assert seeds_needed(1.0, 0.01) is None
    assert seeds_needed(0.0, 0.01) is None


# Simulated studies


def simulate(
    seeds: int,
    backbones: int,
    variants: int,
    *,
    effect: float = 0.0,
    spread: str = "normal",
    images: int | None = 400,
) -> np.ndarray:
    """Top-1 of simulated studies, `(studies, backbones, 1 + variants, seeds)`, plain first.

    What a seed does to all that is compared is shared; accuracies are counts of `images`.
    """
    rng = np.random.default_rng([seeds, backbones, variants])
    shape = (STUDIES, backbones, 1 + variants, seeds)
    noise = rng.normal(size=shape) if spread == "normal" else -rng.exponential(size=shape)
    level = rng.normal(0.7, 0.05, size=(STUDIES, backbones, 1, 1))
    shared = rng.normal(0, 0.02, size=(STUDIES, 1, 1, seeds))
    top1 = level + shared + 0.012 * noise
    top1[:, :, 1:] += effect
    return np.round(images * top1) / images if images else top1


def differences(top1: np.ndarray) -> np.ndarray:
    """`(studies, comparisons, seeds)`."""
    return (top1[:, :, 1:] - top1[:, :, :1]).reshape(STUDIES, -1, top1.shape[-1])


def any_found(top1: np.ndarray) -> int:
    return int((holm(paired_p(differences(top1))) <= 0.05).any(-1).sum())


SHAPES = [(1, 1), (4, 1), (1, 4), (3, 3)]


LOW, HIGH = stats.binom.interval(0.99, STUDIES, 0.05)
"""Studies of 2,000 with a false positive, where the rate is 5%."""


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("backbones", [1, 4, 12])
def test_null_studies_find_something_in_five_percent(seeds: int, backbones: int) -> None:
    assert LOW <= any_found(simulate(seeds, backbones, 1, images=None)) <= HIGH


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("backbones", "variants"), [(1, 1), (1, 4), (3, 3)])
def test_shared_baselines_and_few_test_images_give_no_more(
    seeds: int, backbones: int, variants: int
) -> None:
    # Fewer is what Holm gives where comparisons are alike because they share their plain runs.
    assert LOW / 2 <= any_found(simulate(seeds, backbones, variants)) <= HIGH


def test_without_holm_the_simulation_finds_much() -> None:
    p = paired_p(differences(simulate(5, 12, 1, images=None)))
    expected = 1 - 0.95**12  # 46% of the studies
    assert ((p <= 0.05).any(-1)).mean() == pytest.approx(expected, abs=0.04)


def test_looking_after_every_seed_finds_too_much() -> None:
    compared = differences(simulate(20, 1, 1, images=None))[:, 0]
    looks = np.stack([paired_p(compared[:, :seeds]) <= 0.05 for seeds in range(5, 21)])
    assert 0.17 <= looks.any(0).mean() <= 0.22  # as the documentation warns


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_comparisons_with_controls_give_no_more(seeds: int) -> None:
    # Plain, two blocks, the control of each: each with plain, and each block with its control.
    top1 = simulate(seeds, 1, 4)[:, 0]
    pairs = [(1, 0), (2, 0), (3, 0), (4, 0), (1, 3), (2, 4)]
    compared = np.stack([top1[:, ours] - top1[:, theirs] for ours, theirs in pairs], axis=1)
    assert (holm(paired_p(compared)) <= 0.05).any(-1).sum() <= HIGH


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_skewed_accuracies_give_no_more_false_positives(seeds: int) -> None:
    assert any_found(simulate(seeds, 1, 3, spread="skewed")) <= HIGH


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("effect", [0.0, 0.03])
def test_the_interval_holds_the_truth_in_95_percent(seeds: int, effect: float) -> None:
    top1 = simulate(seeds, 1, 4, effect=effect)
    low, high = mean_interval(differences(top1))
    assert 0.93 <= ((low <= effect) & (effect <= high)).mean() <= 0.97


def test_the_number_of_seeds_needed_gives_the_power_promised() -> None:
    needed = seeds_needed(0.012 * math.sqrt(2), 0.02)
    assert needed == 8
    found = any_found(simulate(needed, 1, 1, effect=0.02)) / STUDIES
    assert 0.8 - 0.03 <= found <= 0.9


def test_the_summary_says_what_the_simulation_counts() -> None:
    from studies import result

    top1 = simulate(5, 2, 2, effect=0.02)
    for study in range(20):
        rows = summarise(
            result(
                "plain" if not v else f"block {v}",
                seed,
                top1[study, b, v, seed],
                backbone=f"net{b}",
            )
            for b in range(2)
            for v in range(3)
            for seed in range(5)
        )
        told = [row.difference.p_corrected for row in rows if row.difference]
        expected = holm(paired_p(differences(top1)[study]))
        assert told == pytest.approx(expected.tolist())
        verdicts = [row.difference.verdict for row in rows if row.difference]
        assert verdicts == ["better" if p <= 0.05 else "no evidence" for p in expected]
