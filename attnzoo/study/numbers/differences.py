"""Paired differences between a variant and what it is compared with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from attnzoo.study.numbers.effects import effect_size
from attnzoo.study.numbers.equivalence import posterior, same_p
from attnzoo.study.numbers.inference import EQUAL, mean_interval, paired_p, permutation_p
from attnzoo.study.numbers.resampled import resampled_p
from attnzoo.study.numbers.rules import LEVEL
from attnzoo.study.numbers.sequential import sequential_p, sequential_same_p

__all__ = ["Difference", "Verdict", "in_order", "paired_difference"]

Verdict = Literal["better", "worse", "same", "no evidence"]


@dataclass(frozen=True)
class Difference:
    """A metric against a baseline, seed by seed.

    What the spread over seeds tells is None with a single pair; what is about a margin, where the
    study settled none.

    Attributes:
        baseline: the variant compared with.
        seeds: how many pairs.
        mean: mean difference, as a share.
        deviation: standard deviation of the differences.
        low, high: 95% interval of the mean by Student's t, of this comparison alone.
        effect: Cohen's d_z, the mean over the deviation; None where the deviation is 0, or where
            splits share images.
        effect_low, effect_high: its 95% interval by noncentral t.
        p: of the paired t test; where it is looked at after each seed, the smallest level that
            would have decided.
        p_permutation: of the exact sign-flip test, for comparison; at least 2/2ⁿ with n pairs;
            None where splits share images.
        p_corrected: p after the correction over all comparisons of the study.
        verdict: what the corrected p say at 5%.
        more_seeds: how many it would take, beyond these, to find a difference of the chosen size
            with 80% chance at the strictest step of the correction; None where that is over
            1,000 or the deviation is 0.
        margin: within which two count as the same, as a share.
        p_same: of two one-sided t tests at the margin.
        p_same_corrected: after the correction.
        more_for_same: how many more seeds it would take to show that two which do not differ are
            the same, as `more_seeds`.
        probability_worse, probability_same, probability_better: that the true difference is
            beyond the margin for the worse, within it, and beyond it for the better, with normal
            differences and a flat prior; None where the deviation is 0. They are of this
            comparison alone and decide nothing.
    """

    baseline: str
    seeds: int
    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    p: float | None = None
    p_permutation: float | None = None
    p_corrected: float | None = None
    verdict: Verdict | None = None
    more_seeds: int | None = None
    margin: float | None = None
    p_same: float | None = None
    p_same_corrected: float | None = None
    more_for_same: int | None = None
    probability_worse: float | None = None
    probability_same: float | None = None
    probability_better: float | None = None

    @property
    def is_small(self) -> bool:
        """Whether it is better or worse, and shown to be so by less than the margin."""
        small = self.p_same_corrected is not None and self.p_same_corrected <= LEVEL
        return small and self.verdict in ("better", "worse")


def paired_difference(
    baseline: Mapping[int, float | None],
    variant: Mapping[int, float | None],
    name: str = "plain",
    margin: float | None = None,
    looks: tuple[int, int] | None = None,
    seeds: Sequence[int] = (),
    *,
    lower: bool = False,
    shared: float = 0.0,
) -> Difference | None:
    """`variant` minus `baseline` over the seeds at which both are numbers; None if there is none.

    It has no verdict yet: that takes all comparisons of the study.

    Args:
        baseline: seed → metric of what is compared with; None where the run diverged.
        variant: seed → metric, or None.
        name: of the baseline.
        margin: within which two count as the same, as a share.
        looks: seeds at the first look and at the last, where it is looked at after each.
        seeds: in the order of the looks.
        lower: whether less is better.
        shared: test images for each training image, where both are drawn anew at each seed.

    Example:
        >>> paired_difference({0: 0.5, 1: 0.6}, {0: 0.52, 1: 0.64}).seeds
        2
    """
    common = sorted(set(baseline) & set(variant))
    found = in_order(baseline, variant, common if looks is None else seeds)
    if not found:
        return None
    count, mean = len(found), statistics.fmean(found)
    if count < 2:
        return Difference(name, count, mean)
    low, high = mean_interval(found, shared=shared)
    deviation = statistics.stdev(found)
    spread = deviation > EQUAL
    effect = (None,) * 3
    if spread and not shared:  # else t has another distribution
        effect = effect_size(mean / deviation * math.sqrt(count), count)
    chances: tuple[float | None, ...] = (None,) * 3
    if spread and margin is not None:
        chances = tuple(map(float, posterior(mean, deviation, count, margin, shared)))
        chances = chances[::-1] if lower else chances
    return Difference(
        baseline=name,
        seeds=count,
        mean=mean,
        deviation=deviation,
        low=float(low),
        high=float(high),
        effect=effect[0],
        effect_low=effect[1],
        effect_high=effect[2],
        p=_different(found, looks, shared),
        p_permutation=None if shared else permutation_p(found),
        margin=margin,
        p_same=None if margin is None else _same(found, margin, looks, shared),
        probability_worse=chances[0],
        probability_same=chances[1],
        probability_better=chances[2],
    )


def in_order(
    baseline: Mapping[int, float | None],
    variant: Mapping[int, float | None],
    seeds: Sequence[int],
) -> list[float]:
    """Differences of `seeds`, up to the first that one of the two has not done.

    So what was found at a look stays, whichever run is over first. Where one of the two diverged
    there is no difference, and the next seed follows.
    """
    found = []
    for seed in seeds:
        if seed not in baseline or seed not in variant:
            break
        ours, theirs = variant[seed], baseline[seed]
        if ours is not None and theirs is not None and math.isfinite(ours - theirs):
            found.append(ours - theirs)
    return found


def _different(found: Sequence[float], looks: tuple[int, int] | None, shared: float) -> float:
    if shared:
        return float(resampled_p(found, shared))
    return float(paired_p(found) if looks is None else sequential_p(found, *looks))


def _same(
    found: Sequence[float], margin: float, looks: tuple[int, int] | None, shared: float
) -> float:
    if looks is None:
        return float(same_p(found, margin, shared))
    return float(sequential_same_p(found, margin, *looks))
