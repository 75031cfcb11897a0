"""Statistics over seeds: mean, standard deviation, and differences from plain paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attnzoo.train.extras import require
from attnzoo.train.spec import RunResult

__all__ = ["Difference", "Summary", "paired_difference", "sampling_error", "summarise"]


@dataclass(frozen=True)
class Difference:
    """Accuracy against the plain network, seed by seed.

    Attributes:
        seeds: how many pairs.
        mean: mean difference in top-1, as a share.
        low, high: 95% interval of the mean by Student's t; None with a single pair, which says
            nothing about how far seeds differ.
    """

    seeds: int
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Summary:
    """One backbone with one variant, over its finished seeds.

    Attributes:
        top1: mean share of test images that are right; None where every run diverged.
        deviation: standard deviation over seeds; None with fewer than two.
        diverged: runs without a result.
        difference: from plain; None for plain itself, or where no seed has both.
        added_parameters, added_macs: over plain; None where plain was not run.
    """

    backbone: str
    variant: str
    plain: bool
    seeds: int
    diverged: int
    top1: float | None
    deviation: float | None
    difference: Difference | None
    sites: int
    places: str
    parameters: int
    macs: int
    seconds: float
    gamma: float | None
    added_parameters: int | None
    added_macs: int | None


def summarise(results: Iterable[RunResult]) -> list[Summary]:
    """One summary per backbone and variant, in order of first appearance."""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for result in results:
        groups.setdefault((result.backbone, result.variant), []).append(result)
    plain = {backbone: runs for (backbone, _), runs in groups.items() if not runs[0].policy}
    return [_summary(runs, plain.get(backbone, [])) for (backbone, _), runs in groups.items()]


def _summary(runs: list[RunResult], plain: list[RunResult]) -> Summary:
    first = runs[0]
    top1 = _by_seed(runs)
    is_plain = not first.policy
    gammas = [run.gamma for run in runs if run.gamma is not None]
    return Summary(
        backbone=first.backbone,
        variant=first.variant,
        plain=is_plain,
        seeds=len(top1),
        diverged=len(runs) - len(top1),
        top1=statistics.fmean(top1.values()) if top1 else None,
        deviation=statistics.stdev(top1.values()) if len(top1) > 1 else None,
        difference=None if is_plain else paired_difference(_by_seed(plain), top1),
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


def paired_difference(
    plain: Mapping[int, float], variant: Mapping[int, float]
) -> Difference | None:
    """`variant` minus `plain` over the seeds that both have; None if there is none.

    Example:
        >>> paired_difference({0: 0.5, 1: 0.6}, {0: 0.52, 1: 0.64}).seeds
        2
    """
    seeds = sorted(set(plain) & set(variant))
    if not seeds:
        return None
    differences = [variant[seed] - plain[seed] for seed in seeds]
    mean = statistics.fmean(differences)
    if len(seeds) < 2:
        return Difference(len(seeds), mean)
    if len(set(differences)) == 1:  # scipy warns and gives nan; the interval has no width
        return Difference(len(seeds), mean, mean, mean)
    stats = require("scipy.stats", "scipy")
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return Difference(len(seeds), mean, float(interval.low), float(interval.high))


def sampling_error(top1: float, images: int) -> float:
    """Standard error of an accuracy from the finite test set alone, as a share."""
    return math.sqrt(top1 * (1 - top1) / images)
