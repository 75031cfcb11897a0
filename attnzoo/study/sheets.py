"""The tables of a report, filled in once for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attnzoo.study.measure import Costs, Spread, VariantCosts
from attnzoo.study.stats import Difference, Summary
from attnzoo.study.table import (
    accuracy_text,
    added_text,
    comparisons,
    difference_text,
    interval_text,
    more_seeds_text,
    p_text,
    verdict_text,
)

__all__ = ["Sheet", "cost_sheet", "result_sheet", "verdict_sheet"]


@dataclass(frozen=True)
class Sheet:
    """A table: headings, and rows in groups; the first cell of a row names a variant.

    Attributes:
        headings: of the columns.
        groups: `(heading, rows)`, a group a backbone.
    """

    headings: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]

    @classmethod
    def of(
        cls, headings: Sequence[str], lines: Iterable[tuple[str, Sequence[str]]]
    ) -> Sheet:
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

    def markdown(self, group: str = "backbone") -> str:
        """As a Markdown table, with a first column for the group."""
        lines = [[group, *self.headings], ["---"] * (1 + len(self.headings))]
        for heading, rows in self.groups:
            lines += [[heading, *(cell.replace("|", "\\|") for cell in row)] for row in rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def result_sheet(rows: Sequence[Summary]) -> Sheet:
    """Accuracy of every variant, and what it is over plain."""
    headings = (
        *("variant", "top-1 %", "95%", "vs plain", "verdict", "more seeds"),
        *("mean γ", "seeds", "seconds"),
    )
    return Sheet.of(
        headings,
        (
            (
                row.backbone,
                (
                    row.variant,
                    accuracy_text(row),
                    interval_text(row.low, row.high),
                    "" if row.plain else difference_text(row.difference),
                    verdict_text(row.difference),
                    more_seeds_text(row.difference),
                    "" if row.gamma is None else f"{row.gamma:.3f}",
                    str(row.seeds) + (f" (+{row.diverged} diverged)" if row.diverged else ""),
                    f"{row.seconds:.0f}",
                ),
            )
            for row in rows
        ),
    )


def verdict_sheet(rows: Sequence[Summary]) -> Sheet:
    """Every comparison that has a verdict."""
    headings = (
        *("variant", "against", "points", "verdict", "more seeds", "p Holm"),
        *("p", "p permutation", "seeds"),
    )
    judged = [(row, found) for row, found in comparisons(rows) if found.verdict]
    return Sheet.of(headings, ((row.backbone, _judged(row, found)) for row, found in judged))


def _judged(row: Summary, found: Difference) -> tuple[str, ...]:
    return (
        row.variant,
        found.baseline,
        difference_text(found),
        verdict_text(found),
        more_seeds_text(found),
        p_text(found),
        f"{found.p:.2g}",
        f"{found.p_permutation:.2g}",
        str(found.seeds),
    )


def cost_sheet(
    rows: Sequence[Summary], costs: Costs | None, fronts: Mapping[tuple[str, str], Sequence[str]]
) -> Sheet:
    """What every variant costs, and by which costs it is on the front."""
    headings = (
        *("variant", "places", "sites", "parameters", "MACs", "ms an image", "over plain"),
        *("images/s", "kept, MB", "peak, MB", "on the front of"),
    )
    return Sheet.of(
        headings,
        (
            (
                row.backbone,
                (
                    row.variant,
                    row.places,
                    str(row.sites or ""),
                    f"{row.parameters / 1e6:.2f} M"
                    f"{added_text(row, row.added_parameters, row.parameters)}",
                    f"{row.macs / 1e6:.1f} M{added_text(row, row.added_macs, row.macs)}",
                    *_measured(costs.of(row.backbone, row.variant) if costs else None, row.plain),
                    ", ".join(fronts.get((row.backbone, row.variant), ())),
                ),
            )
            for row in rows
        ),
    )


def _measured(found: VariantCosts | None, plain: bool) -> tuple[str, ...]:
    if found is None:
        return ("",) * 5
    return (
        _spread_text(found.latency),
        "" if plain else f"×{_spread_text(found.slowdown, 2)}",
        f"{found.images_per_second.median:,.0f}",
        f"{found.saved_bytes / 1e6:,.1f}",
        "" if found.peak_bytes is None else f"{found.peak_bytes / 1e6:,.1f}",
    )


def _spread_text(spread: Spread, digits: int | None = None) -> str:
    """The median and the quartiles, all to the same digit."""
    if digits is None:
        digits = 1 if spread.median >= 10 else 2
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}, {spread.high:.{digits}f}]"
