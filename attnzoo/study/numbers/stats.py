"""Statistics over seeds: each variant, and its differences from plain and from its control."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from attnzoo.study.numbers.inference import (
    holm,
    mean_interval,
    paired_p,
    permutation_p,
    seeds_needed,
)
from attnzoo.train import RunResult

__all__ = ["Difference", "Summary", "Verdict", "paired_difference", "sampling_error", "summarise"]

LEVEL = 0.05
"""A verdict other than "no evidence" needs a corrected p of at most this."""

Verdict = Literal["better", "worse", "no evidence"]


@dataclass(frozen=True)
class Difference:
    """Accuracy against a baseline, seed by seed.

    What the spread over seeds tells is None with a single pair.

    Attributes:
        baseline: the variant compared with.
        seeds: how many pairs.
        mean: mean difference in top-1, as a share.
        deviation: standard deviation of the differences.
        low, high: 95% interval of the mean by Student's t, of this comparison alone.
        p: of the paired t test.
        p_permutation: of the exact sign-flip test, for comparison; at least 2/2ⁿ with n pairs.
        p_holm: p after Holm's correction over all comparisons of the study.
        verdict: what `p_holm` says at 5%.
        more_seeds: how many it would take, beyond these, to find a difference of the chosen size
            with 80% chance at the strictest step of Holm's correction; None where that is over
            1,000 or the deviation is 0.
    """

    baseline: str
    seeds: int
    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_permutation: float | None = None
    p_holm: float | None = None
    verdict: Verdict | None = None
    more_seeds: int | None = None


@dataclass(frozen=True)
class Summary:
    """One backbone with one variant, over its finished seeds.

    Attributes:
        top1: mean share of test images that are right; None where every run diverged.
        deviation: standard deviation over seeds; None with fewer than two.
        low, high: 95% interval of the mean by Student's t; None with fewer than two seeds.
        diverged: runs without a result.
        difference: from plain; None for plain itself, or where no seed has both.
        beyond: difference from the control of equal capacity; None where there is none.
        added_parameters, added_macs: over plain; None where plain was not run.
    """

    backbone: str
    variant: str
    plain: bool
    seeds: int
    diverged: int
    top1: float | None
    deviation: float | None
    low: float | None
    high: float | None
    difference: Difference | None
    beyond: Difference | None
    sites: int
    places: str
    parameters: int
    macs: int
    seconds: float
    gamma: float | None
    added_parameters: int | None
    added_macs: int | None


def summarise(
    results: Iterable[RunResult],
    controls: Mapping[str, str] | None = None,
    size: float = 0.01,
    baselines: Mapping[str, str] | None = None,
) -> list[Summary]:
    """One summary per backbone and variant, in order of first appearance.

    Args:
        results: of one study: Holm's correction is over all of its comparisons.
        controls: variant → the variant that is its control.
        size: the difference in top-1, as a share, that `more_seeds` is about.
        baselines: variant → the plain network that it is compared with, where there are several.
    """
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        groups.setdefault((result.backbone, result.variant), []).append(result)
    plain = {backbone: runs for (backbone, _), runs in groups.items() if not runs[0].policy}
    rows = []
    for (backbone, variant), runs in groups.items():
        control = groups.get((backbone, (controls or {}).get(variant, "")), [])
        own = (baselines or {}).get(variant)
        base = groups.get((backbone, own), []) if own else plain.get(backbone, [])
        rows.append(_summary(runs, base, control))
    return _with_verdicts(rows, size)


def _summary(runs: list[RunResult], plain: list[RunResult], control: list[RunResult]) -> Summary:
    first = runs[0]
    top1 = _by_seed(runs)
    is_plain = not first.policy
    gammas = [run.gamma for run in runs if run.gamma is not None]
    several = len(top1) > 1
    low, high = map(float, mean_interval(list(top1.values()))) if several else (None, None)
    return Summary(
        backbone=first.backbone,
        variant=first.variant,
        plain=is_plain,
        seeds=len(top1),
        diverged=len(runs) - len(top1),
        top1=statistics.fmean(top1.values()) if top1 else None,
        deviation=statistics.stdev(top1.values()) if several else None,
        low=low,
        high=high,
        difference=None if is_plain else _compared(plain, runs),
        beyond=_compared(control, runs),
        sites=first.sites,
        places=first.places,
        parameters=first.parameters,
        macs=first.macs,
        seconds=statistics.fmean(run.seconds for run in runs),
        gamma=statistics.fmean(gammas) if gammas else None,
        added_parameters=first.parameters - plain[0].parameters if plain else None,
        added_macs=first.macs - plain[0].macs if plain else None,
    )


def _by_seed(runs: Iterable[RunResult]) -> dict[int, float]:
    return {run.seed: run.top1 for run in runs if run.top1 is not None}


def _compared(baseline: list[RunResult], runs: list[RunResult]) -> Difference | None:
    if not baseline:
        return None
    return paired_difference(_by_seed(baseline), _by_seed(runs), baseline[0].variant)


def paired_difference(
    baseline: Mapping[int, float], variant: Mapping[int, float], name: str = "plain"
) -> Difference | None:
    """`variant` minus `baseline` over the seeds at which both are numbers; None if there is none.

    It has no verdict yet: that takes all comparisons of the study.

    Args:
        baseline: seed → top-1 of what is compared with.
        variant: seed → top-1.
        name: of the baseline.

    Example:
        >>> paired_difference({0: 0.5, 1: 0.6}, {0: 0.52, 1: 0.64}).seeds
        2
    """
    pairs = ((variant[seed], baseline[seed]) for seed in sorted(set(baseline) & set(variant)))
    differences = [ours - theirs for ours, theirs in pairs if math.isfinite(ours - theirs)]
    if not differences:
        return None
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return Difference(name, len(differences), mean)
    low, high = mean_interval(differences)
    return Difference(
        baseline=name,
        seeds=len(differences),
        mean=mean,
        deviation=statistics.stdev(differences),
        low=float(low),
        high=float(high),
        p=float(paired_p(differences)),
        p_permutation=permutation_p(differences),
    )


def _with_verdicts(rows: Sequence[Summary], size: float) -> list[Summary]:
    """The same rows, their comparisons judged together."""
    asked = [
        d.p
        for row in rows
        for d in (row.difference, row.beyond)
        if d is not None and d.p is not None
    ]
    if not asked:
        return list(rows)
    corrected = iter(holm(asked).tolist())
    diverged = {(row.backbone, row.variant): row.diverged for row in rows}

    def judge(row: Summary, difference: Difference | None) -> Difference | None:
        if difference is None or difference.p is None or difference.deviation is None:
            return difference
        p = next(corrected)
        lost = diverged[row.backbone, difference.baseline]
        needed = seeds_needed(difference.deviation, size, LEVEL / len(asked))
        return replace(
            difference,
            p_holm=p,
            verdict=_verdict(difference.mean, p, row.diverged, lost),
            more_seeds=None if needed is None else max(needed - difference.seeds, 0),
        )

    return [
        replace(row, difference=judge(row, row.difference), beyond=judge(row, row.beyond))
        for row in rows
    ]


def _verdict(mean: float, p: float, diverged: int, baseline_diverged: int) -> Verdict:
    # Where diverged runs were left out, those that remain flatter their side.
    if p > LEVEL:
        return "no evidence"
    if mean > 0:
        return "no evidence" if diverged else "better"
    return "no evidence" if baseline_diverged else "worse"


def sampling_error(top1: float, images: int) -> float:
    """Standard error of an accuracy from the finite test set alone, as a share."""
    return math.sqrt(top1 * (1 - top1) / images)
