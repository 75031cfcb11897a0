"""Each comparison as a sentence that can stand in a paper, with all that a reviewer asks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnzoo.checks import counted
from attnzoo.study.definition import Study
from attnzoo.study.numbers import METRICS, Costs, Difference, Rules, Summary
from attnzoo.study.report.table import (
    CORRECTIONS,
    comparisons,
    more_for_same_text,
    more_seeds_text,
    number_text,
    points_text,
    small_p,
    verdict_text,
)

__all__ = ["sentences"]

ORDER = ("better", "worse", "same", "no evidence")


def sentences(study: Study, rows: Sequence[Summary], costs: Costs | None) -> list[tuple[str, str]]:
    """`(verdict, sentence)` of every comparison that has one: better first, then worse, the same.

    Args:
        study: what was settled beforehand.
        rows: its summaries.
        costs: what was measured.
    """
    judged = [(row, found) for row, found in comparisons(rows) if found.verdict]
    named = {(row.backbone, row.variant): row for row in rows}
    judged.sort(key=lambda pair: ORDER.index(pair[1].verdict or ""))
    return [
        (
            verdict_text(found),
            _sentence(study, row, found, len(judged))
            + _cost(row, named.get((row.backbone, found.baseline)), costs)
            + _more(study, found),
        )
        for row, found in judged
    ]


def _sentence(study: Study, row: Summary, found: Difference, count: int) -> str:
    numbers = [f"n = {found.seeds} seeds, paired"]
    if found.low is not None and found.high is not None:
        ends = f"{100 * found.low:+.2f}, {100 * found.high:+.2f}"
        numbers.insert(0, f"95% CI [{ends}]")
    over = f"{CORRECTIONS[study.correction]} correction over {counted(count, 'comparison')}"
    looks = ""
    if study.look_from is not None:
        ends = f"{study.look_from} to at most {len(study.seeds)}"
        looks = f" after each seed from {ends}, with alpha spending"
    test = _test(found)
    if Rules.of(study).shared:
        test = "paired t test with Nadeau and Bengio's correction, splits drawn anew at each seed"
    numbers.append(f"{test}{looks}, {_p(found.p)}, {_p(found.p_corrected)} after {over}")
    if found.margin is not None:
        numbers.append(
            f"two one-sided t tests at ±{100 * found.margin:g}: {_p(found.p_same)}, "
            f"{_p(found.p_same_corrected)} after correction"
        )
    if found.effect is not None:
        ends = f"{number_text(found.effect_low)}, {number_text(found.effect_high)}"
        numbers.append(f"d_z = {number_text(found.effect)} [{ends}]")
    measure = METRICS[study.metric]
    return (
        f"{row.backbone}, {row.variant} against {found.baseline}: "
        f"{100 * found.mean:+.2f} {measure.points} of {measure.told} ({'; '.join(numbers)})"
    )


def _test(found: Difference) -> str:
    if not found.effect:
        return "paired t test"
    return f"paired t test, t({found.seeds - 1}) = {found.effect * math.sqrt(found.seeds):.2f}"


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {small_p(p)}"


def _more(study: Study, found: Difference) -> str:
    """What it would take to say more, where there is no evidence."""
    if found.verdict != "no evidence":
        return ""
    if not found.deviation:
        return " All seeds differ equally, which tells nothing of their spread."
    size = points_text(study.difference_points, METRICS[study.metric])
    said = _needed(found.more_seeds, more_seeds_text(found), f"see {size}")
    if found.margin is not None:
        margin = f"show that two are the same within ±{100 * found.margin:g}"
        said += f"{_needed(found.more_for_same, more_for_same_text(found), margin)}"
    return said


def _needed(more: int | None, told: str, what: str) -> str:
    if more == 0:
        return f" So many seeds {what} with 80% chance."
    return f" It takes {told} more {'seed' if more == 1 else 'seeds'} to {what} with 80% chance."


def _cost(row: Summary, baseline: Summary | None, costs: Costs | None) -> str:
    """What a variant costs beside what it is compared with."""
    if baseline is None:
        return "."
    said = [
        f"{_percent(ours, theirs)} {name}"
        for name, ours, theirs in (
            ("parameters", row.parameters, baseline.parameters),
            ("MACs", row.macs, baseline.macs),
        )
    ]
    ours = costs.of(row.backbone, row.variant) if costs else None
    theirs = costs.of(row.backbone, baseline.variant) if costs else None
    if ours is not None and theirs is not None:
        factor = ours.slowdown.median / theirs.slowdown.median
        said.append(f"×{factor:.2f} the time for one image")
    return f", at {', '.join(said)}."


def _percent(ours: float, theirs: float) -> str:
    share = 100 * (ours / theirs - 1)
    return f"{share:+.2f}%" if abs(share) < 10 else f"{share:+.0f}%"
