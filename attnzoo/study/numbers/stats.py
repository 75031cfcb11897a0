"""Statistics over seeds: each variant, and its differences from plain and from its control."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attnzoo.study.definition import Study
from attnzoo.study.numbers.differences import Difference, paired_difference
from attnzoo.study.numbers.inference import mean_interval
from attnzoo.study.numbers.rules import Rules
from attnzoo.study.numbers.verdicts import judged
from attnzoo.study.runs import Record
from attnzoo.train import RunResult

__all__ = ["Summary", "sampling_error", "study_summaries", "study_verdicts", "summarise"]


@dataclass(frozen=True)
class Summary:
    """One backbone with one variant, over its finished seeds.

    Attributes:
        score: mean of the metric, by default the share of test images that are right; None where
            every run diverged.
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
    score: float | None
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
    rules: Rules = Rules(),  # noqa: B008 (frozen)
    baselines: Mapping[str, str] | None = None,
    seeds: Sequence[int] = (),
) -> list[Summary]:
    """One summary per backbone and variant, in order of first appearance.

    Args:
        results: of one study: the correction is over all of its comparisons.
        controls: variant → the variant that is its control.
        rules: how they are judged.
        baselines: variant → the plain network that it is compared with, where there are several.
        seeds: in the order of the looks, where the rules have some.
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
        rows.append(_summary(runs, base, control, rules, seeds))
    return _with_verdicts(rows, rules)


def study_summaries(study: Study, records: Iterable[Record]) -> list[Summary]:
    """The summaries of a study, with verdicts where seeds allow them."""
    results = (record.result for record in records)
    return summarise(results, study.controlled, Rules.of(study), study.baselines, study.seeds)


def study_verdicts(
    study: Study, records: Iterable[Record]
) -> dict[tuple[str, str], dict[str, str]]:
    """`(backbone, variant)` → what it is compared with → the verdict."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in study_summaries(study, records):
        for told in (row.difference, row.beyond):
            if told is not None and told.verdict is not None:
                found.setdefault((row.backbone, row.variant), {})[told.baseline] = told.verdict
    return found


def _summary(
    runs: list[RunResult],
    plain: list[RunResult],
    control: list[RunResult],
    rules: Rules,
    seeds: Sequence[int],
) -> Summary:
    first = runs[0]
    scores = _by_seed(runs, rules)
    is_plain = not first.policy
    gammas = [run.gamma for run in runs if run.gamma is not None]
    several = len(scores) > 1
    low, high = (
        map(float, mean_interval(list(scores.values()), shared=rules.shared))
        if several
        else (None, None)
    )
    return Summary(
        backbone=first.backbone,
        variant=first.variant,
        plain=is_plain,
        seeds=len(scores),
        diverged=len(runs) - len(scores),
        score=statistics.fmean(scores.values()) if scores else None,
        deviation=statistics.stdev(scores.values()) if several else None,
        low=low,
        high=high,
        difference=None if is_plain else _compared(plain, runs, rules, seeds),
        beyond=_compared(control, runs, rules, seeds),
        sites=first.sites,
        places=first.places,
        parameters=first.parameters,
        macs=first.macs,
        seconds=statistics.fmean(run.seconds for run in runs),
        gamma=statistics.fmean(gammas) if gammas else None,
        added_parameters=first.parameters - plain[0].parameters if plain else None,
        added_macs=first.macs - plain[0].macs if plain else None,
    )


def _by_seed(runs: Iterable[RunResult], rules: Rules) -> dict[int, float]:
    found = {run.seed: rules.measure.of(run) for run in runs}
    return {seed: value for seed, value in found.items() if value is not None}


def _compared(
    baseline: list[RunResult], runs: list[RunResult], rules: Rules, seeds: Sequence[int]
) -> Difference | None:
    if not baseline:
        return None
    measure, name = rules.measure, baseline[0].variant
    ours, theirs = ({run.seed: measure.of(run) for run in some} for some in (runs, baseline))
    return paired_difference(
        theirs,
        ours,
        name,
        rules.margin,
        rules.looks,
        seeds,
        lower=measure.lower,
        shared=rules.shared,
    )


def _with_verdicts(rows: Sequence[Summary], rules: Rules) -> list[Summary]:
    """The same rows, their comparisons judged together."""
    diverged = {(row.backbone, row.variant): row.diverged for row in rows}
    asked = [
        (difference, (row.diverged, diverged[row.backbone, difference.baseline]))
        for row in rows
        for difference in (row.difference, row.beyond)
        if difference is not None and difference.p is not None
    ]
    told = iter(judged([d for d, _ in asked], [lost for _, lost in asked], rules))

    def judge(difference: Difference | None) -> Difference | None:
        return difference if difference is None or difference.p is None else next(told)

    return [
        replace(row, difference=judge(row.difference), beyond=judge(row.beyond)) for row in rows
    ]


def sampling_error(top1: float, images: int) -> float:
    """Standard error of an accuracy from the finite test set alone, as a share."""
    return math.sqrt(top1 * (1 - top1) / images)
