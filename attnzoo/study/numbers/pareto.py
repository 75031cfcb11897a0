"""The Pareto front: what nothing else beats in accuracy and cost at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnzoo.study.numbers.costs import Costs
from attnzoo.study.numbers.stats import Summary

__all__ = ["COST_LABELS", "COST_UNITS", "cost_of", "fronts", "on_front"]

COST_UNITS = {"parameters": "", "MACs": "", "latency": "s", "memory": "B"}
"""What a variant can cost → its unit."""

COST_LABELS = {
    "parameters": "parameters",
    "MACs": "MACs of one image",
    "latency": "time for one image",
    "memory": "kept for the backward pass",
}


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether no other point of `(cost, accuracy)` is as good in both and better in one.

    Example:
        >>> on_front([(1, 0.5), (2, 0.6), (3, 0.55)])
        [True, True, False]
    """
    return [
        not any(
            other[0] <= cost and other[1] >= accuracy and other != (cost, accuracy)
            for other in points
        )
        for cost, accuracy in points
    ]


def cost_of(row: Summary, name: str, costs: Costs | None) -> float | None:
    """What a variant costs, in its unit; None where that was not measured."""
    if name == "parameters":
        return row.parameters
    if name == "MACs":
        return row.macs
    measured = costs.of(row.backbone, row.variant) if costs else None
    if measured is None:
        return None
    return measured.latency.median / 1e3 if name == "latency" else measured.saved_bytes


def fronts(
    rows: Sequence[Summary], costs: Costs | None, sign: int = 1
) -> Mapping[tuple[str, str], list[str]]:
    """`(backbone, variant)` → the costs by which it is on the front of its backbone.

    The fronts are drawn through means: they say nothing of whether a difference is real.

    Args:
        rows: their scores.
        costs: what was measured.
        sign: -1 where less is better.
    """
    found: dict[tuple[str, str], list[str]] = {(r.backbone, r.variant): [] for r in rows}
    for backbone in dict.fromkeys(row.backbone for row in rows):
        own = [row for row in rows if row.backbone == backbone and row.score is not None]
        for name in COST_UNITS:
            priced = [(row, cost_of(row, name, costs)) for row in own]
            points = [
                (row, cost, sign * (row.score or 0.0)) for row, cost in priced if cost is not None
            ]
            marks = on_front([(cost, score) for _, cost, score in points])
            for (row, _, _), marked in zip(points, marks, strict=True):
                if marked:
                    found[row.backbone, row.variant].append(name)
    return found
