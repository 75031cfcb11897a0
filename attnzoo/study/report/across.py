"""What variants are over many backbones: ranks, the chance of improvement, profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnzoo.study.numbers import (
    ENOUGH,
    METRICS,
    Measure,
    Ranks,
    Summary,
    improvement,
    improvement_interval,
    ranked,
)
from attnzoo.study.report.sheets import Sheet
from attnzoo.study.report.table import small_p
from attnzoo.study.runs import Record

__all__ = ["Across", "across", "across_sheet", "across_words"]

TOP1 = METRICS["top1"]

FEWEST = 3
"""Variants from which on ranks say more than a comparison does."""


@dataclass(frozen=True)
class Across:
    """Variants that every backbone has, over all of them.

    Attributes:
        ranks: by the mean over seeds.
        improvement: variant → chance that a run of it has more than a run of plain, and the 95%
            interval; of those that have seeds in common with plain on every backbone.
        points: variant → what it is better than plain by at each seed, in points, an array a
            backbone.
    """

    ranks: Ranks
    improvement: Mapping[str, tuple[float, float, float]]
    points: Mapping[str, Sequence[NDArray]]


def across(
    rows: Sequence[Summary], records: Sequence[Record], measure: Measure = TOP1
) -> Across | None:
    """The study over its backbones, or None where these, or the variants, are too few."""
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    found = {(row.backbone, row.variant): row for row in rows if row.score is not None}
    variants = [
        variant
        for variant in dict.fromkeys(row.variant for row in rows)
        if all((backbone, variant) in found for backbone in backbones)
    ]
    if len(backbones) < ENOUGH or len(variants) < FEWEST:
        return None
    scores = {v: [measure.sign * (found[b, v].score or 0.0) for b in backbones] for v in variants}
    plain = next((v for v in variants if found[backbones[0], v].plain), None)
    scores_of: dict[tuple[str, str], dict[int, float]] = {}
    for record in records:
        value = measure.of(record.result)
        if value is not None:
            key = record.result.backbone, record.result.variant
            scores_of.setdefault(key, {})[record.result.seed] = measure.sign * value
    chances, points = {}, {}
    for variant in variants:
        pairs = [_pairs(found[b, variant], scores_of) for b in backbones]
        if all(len(pair) for pair in pairs):
            ours, theirs = [p[:, 0] for p in pairs], [p[:, 1] for p in pairs]
            interval = improvement_interval(ours, theirs)
            chances[variant] = improvement(ours, theirs), *interval
            points[variant] = [100 * (a - b) for a, b in zip(ours, theirs, strict=True)]
    return Across(ranked(scores, plain), chances, points)


def _pairs(row: Summary, scores: Mapping[tuple[str, str], Mapping[int, float]]) -> NDArray:
    """`(seeds, 2)`: a variant's scores and those of what it is compared with."""
    if row.difference is None:
        return np.empty((0, 2))
    ours = scores.get((row.backbone, row.variant), {})
    theirs = scores.get((row.backbone, row.difference.baseline), {})
    return np.array([(ours[s], theirs[s]) for s in sorted(set(ours) & set(theirs))]).reshape(-1, 2)


def across_sheet(found: Across) -> Sheet:
    """A line a variant, the best rank first."""
    lines = []
    for variant, rank in found.ranks.mean.items():
        chance = found.improvement.get(variant)
        p = found.ranks.p_plain.get(variant)
        told = ""
        if chance is not None:
            middle, low, high = (f"{100 * share:.0f}" for share in chance)
            told = f"{middle} [{low}, {high}]"
        lines.append(("", (variant, f"{rank:.2f}", small_p(p), told)))
    return Sheet.of(("variant", "mean rank", "p (Holm)", "above plain, %"), lines)


def across_words(found: Across) -> list[str]:
    """How it was come to, and what Friedman's test says."""
    ranks = found.ranks
    alike = "they are not all alike" if ranks.p <= 0.05 else "no evidence that they are not alike"
    return [
        f"Mean ranks over {ranks.backbones} backbones, 1 the best, by the mean over seeds. "
        f"Friedman's test (Iman and Davenport's F): p {small_p(ranks.p)}, {alike}. Mean ranks that "
        f"differ by less than {ranks.critical:.2f}, Nemenyi's critical difference at 5%, are not "
        "told apart: a bar joins them. p (Holm): of the same rank as plain. Here a backbone is "
        "what a seed is in the verdicts, so this is about backbones like these.",
        "above plain: the chance that a run has more than a run of plain, over backbones, with its "
        "95% interval by drawing seeds anew. The profiles show the share of runs that add more to "
        "plain than so many points, at the same seed, in a 95% band.",
    ]
