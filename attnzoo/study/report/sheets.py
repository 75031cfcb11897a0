"""The tables of a report, filled in once for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnzoo.study.definition import Correction
from attnzoo.study.numbers import (
    COST_UNITS,
    METRICS,
    Costs,
    Difference,
    Measure,
    Spread,
    Summary,
    VariantCosts,
)
from attnzoo.study.report.table import (
    SHORT,
    accuracy_text,
    added_text,
    comparisons,
    difference_text,
    interval_text,
    more_for_same_text,
    more_seeds_text,
    number_text,
    p_same_text,
    p_text,
    verdict_text,
)

__all__ = [
    "COSTS",
    "LEAST",
    "Sheet",
    "cost_cells",
    "cost_sheet",
    "result_cells",
    "result_headings",
    "result_sheet",
    "verdict_sheet",
]

TOP1 = METRICS["top1"]

STAR = "★"
"""On the Pareto front by that cost."""

LEAST = ("seeds", "seconds", "p", "p permutation", "images/s", "d_z")
"""Headings of what a small screen can do without."""


@dataclass(frozen=True)
class Sheet:
    """A table: headings, and rows in groups; the first cell of a row names a variant.

    Attributes:
        headings: of the columns.
        groups: `(heading, rows)`, a group a backbone; one without heading where there are none.
    """

    headings: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]

    @classmethod
    def of(cls, headings: Sequence[str], lines: Iterable[tuple[str, Sequence[str]]]) -> Sheet:
        """From `(group, row)` in order. A column without a single text is left out."""
        lines = list(lines)
        shown = [i for i in range(len(headings)) if any(row[i] for _, row in lines)]
        groups: dict[str, list[tuple[str, ...]]] = {}
        for group, row in lines:
            groups.setdefault(group, []).append(tuple(row[i] for i in shown))
        return cls(
            tuple(headings[i] for i in shown),
            tuple((group, tuple(rows)) for group, rows in groups.items()),
        )

    def markdown(self) -> str:
        """As a Markdown table, with a first column for the backbones, where groups are these."""
        grouped = any(heading for heading, _ in self.groups)
        columns = ["backbone"] * grouped + list(self.headings)
        lines = [columns, ["---"] * len(columns)]
        for heading, rows in self.groups:
            lines += [[_cell(text) for text in ([heading] * grouped + list(row))] for row in rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split("\n")).replace("|", "\\|")


def result_sheet(rows: Sequence[Summary], measure: Measure = TOP1) -> Sheet:
    """The metric of every variant, and what it is over plain."""
    lines = ((row.backbone, (row.variant, *result_cells(row, measure))) for row in rows)
    return Sheet.of(("variant", *result_headings(measure)), lines)


def result_headings(measure: Measure) -> tuple[str, ...]:
    """Over the cells of `result_cells`."""
    rest = ("95%", "vs plain", "verdict", "more seeds", "mean γ", "seeds", "seconds")
    return (measure.heading, *rest)


def result_cells(row: Summary, measure: Measure = TOP1) -> tuple[str, ...]:
    """One line of the results, under `result_headings`."""
    return (
        accuracy_text(row),
        interval_text(*_possible(row.low, row.high, measure)),
        "" if row.plain else difference_text(row.difference),
        verdict_text(row.difference),
        more_seeds_text(row.difference),
        "" if row.gamma is None else f"{row.gamma:.3f}",
        str(row.seeds) + (f" (+{row.diverged} diverged)" if row.diverged else ""),
        f"{row.seconds:.0f}",
    )


def _possible(
    low: float | None, high: float | None, measure: Measure
) -> tuple[float | None, float | None]:
    """An interval of a share without what no share can be: from few seeds it is wide."""
    if not measure.is_share:
        return low, high
    return (None if low is None else max(low, 0.0)), (None if high is None else min(high, 1.0))


def verdict_sheet(rows: Sequence[Summary], correction: Correction = "holm") -> Sheet:
    """Every comparison that has a verdict."""
    judged = [(row, found) for row, found in comparisons(rows) if found.verdict]
    same = " / same" if any(found.margin is not None for _, found in judged) else ""
    headings = (
        *("variant", "against", "points", "verdict", "d_z"),
        *(f"more seeds{same}", f"p {SHORT[correction]}{same}", "worse / same / better, %"),
        *("p", "p permutation", "seeds"),
    )
    return Sheet.of(headings, ((row.backbone, _judged(row, found)) for row, found in judged))


def _judged(row: Summary, found: Difference) -> tuple[str, ...]:
    return (
        row.variant,
        "its control" if found is row.beyond else found.baseline,
        difference_text(found),
        verdict_text(found),
        number_text(found.effect),
        _both(more_seeds_text(found), more_for_same_text(found)),
        _both(p_text(found), p_same_text(found)),
        _chances(found),
        f"{found.p:.2g}",
        "" if found.p_permutation is None else f"{found.p_permutation:.2g}",
        str(found.seeds),
    )


def _both(different: str, same: str) -> str:
    return f"{different} / {same}" if same else different


def _chances(found: Difference) -> str:
    """The probabilities of worse, the same and better, in percent."""
    chances = (found.probability_worse, found.probability_same, found.probability_better)
    told = [f"{100 * chance:.0f}" for chance in chances if chance is not None]
    return " / ".join(told)


def cost_sheet(
    rows: Sequence[Summary], costs: Costs | None, fronts: Mapping[tuple[str, str], Sequence[str]]
) -> Sheet:
    """What every variant costs, with a star where it is on the front by that cost."""
    lines = ((row.backbone, (row.variant, *cost_cells(row, costs, fronts))) for row in rows)
    return Sheet.of(("variant", *COSTS), lines)


COSTS = (
    *("sites", "parameters", "MACs", "ms an image", "over plain", "images/s"),
    *("kept, MB", "peak, MB"),
)


def cost_cells(
    row: Summary, costs: Costs | None, fronts: Mapping[tuple[str, str], Sequence[str]]
) -> tuple[str, ...]:
    """One line of the costs, under the headings `COSTS`."""
    found = costs.of(row.backbone, row.variant) if costs else None
    front = fronts.get((row.backbone, row.variant), ())
    stars = {name: f"\u00a0{STAR}" if name in front else "" for name in COST_UNITS}
    return (
        f"{row.sites} {row.places}" if row.sites else "",
        count_text(row.parameters)
        + added_text(row, row.added_parameters, row.parameters)
        + stars["parameters"],
        count_text(row.macs) + added_text(row, row.added_macs, row.macs) + stars["MACs"],
        *(_measured(found, row.plain, stars) if found else ("",) * 5),
    )


def _measured(found: VariantCosts, plain: bool, stars: Mapping[str, str]) -> tuple[str, ...]:
    return (
        _spread_text(found.latency) + stars["latency"],
        "" if plain else f"×{_spread_text(found.slowdown, 2)}",
        _spread_text(found.images_per_second, 0),
        f"{found.saved_bytes / 1e6:,.1f}{stars['memory']}",
        "" if found.peak_bytes is None else f"{found.peak_bytes / 1e6:,.1f}",
    )


def _spread_text(spread: Spread, digits: int | None = None) -> str:
    """The median and the quartiles, all to the same digit."""
    if digits is None:
        digits = 1 if spread.median >= 10 else 2
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}, {spread.high:.{digits}f}]"


def count_text(number: float) -> str:
    """A count in thousands, millions or thousands of millions, to three or four digits."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:g}"
