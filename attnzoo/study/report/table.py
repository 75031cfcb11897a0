"""The study's tables, for the terminal, `results.csv` and `comparisons.csv`, and their wording."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

from rich.table import Table

from attnzoo.study.definition import Study
from attnzoo.study.numbers import (
    METRICS,
    MOST_SEEDS,
    Difference,
    Measure,
    Summary,
    study_summaries,
)
from attnzoo.study.runs import Record
from attnzoo.train import RunResult

__all__ = [
    "CORRECTIONS",
    "SHORT",
    "accuracy_text",
    "added_text",
    "comparisons",
    "comparisons_csv",
    "difference_text",
    "interval_text",
    "more_for_same_text",
    "more_seeds_text",
    "number_text",
    "p_same_text",
    "p_text",
    "points_text",
    "results_csv",
    "results_table",
    "small_p",
    "verdict_text",
]

TOP1 = METRICS["top1"]

CORRECTIONS = {"holm": "Holm's", "fdr": "Benjamini and Hochberg's"}
"""Whose each correction is."""

SHORT = {"holm": "Holm", "fdr": "FDR"}
"""What a table calls each."""

COLUMNS = [name for name in RunResult.model_fields if name != "versions"]


def results_csv(records: Sequence[Record]) -> str:
    """One row a run: every field of `RunResult` but the versions, and the run's folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, "run"], lineterminator="\n")
    writer.writeheader()
    for record in records:
        row = record.result.model_dump(include=set(COLUMNS))
        writer.writerow({**row, "run": record.folder.name})
    return text.getvalue()


def comparisons(rows: Iterable[Summary]) -> list[tuple[Summary, Difference]]:
    """Every comparison of the study: with plain, then with the control."""
    return [(row, d) for row in rows for d in (row.difference, row.beyond) if d is not None]


def comparisons_csv(rows: Iterable[Summary]) -> str:
    """One row a comparison: every field of `Difference`, as shares."""
    text = io.StringIO()
    columns = ["backbone", "variant", *(field.name for field in fields(Difference))]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row, difference in comparisons(rows):
        names = {"backbone": row.backbone, "variant": row.variant}
        writer.writerow({**names, **asdict(difference)})
    return text.getvalue()


def results_table(study: Study, records: Sequence[Record]) -> Table:
    """One row per backbone and variant, for a terminal."""
    rows = study_summaries(study, records)
    judged = any(difference.verdict for _, difference in comparisons(rows))
    controlled = any(row.beyond for row in rows)
    table = Table(title=study.name, title_justify="left", header_style="bold")
    for name in ("backbone", "variant"):
        table.add_column(name, no_wrap=name == "backbone")
    for name in ("seeds", METRICS[study.metric].heading, "vs plain"):
        table.add_column(name, justify="right")
    if judged:
        table.add_column(f"p ({SHORT[study.correction]})", justify="right")
        table.add_column("verdict")
        table.add_column("more seeds", justify="right")
    if controlled:
        table.add_column("vs control", justify="right")
    for name in ("sites", "parameters", "MMACs", "seconds"):
        table.add_column(name, justify="right")
    previous = None
    for row in rows:
        if previous is not None and row.backbone != previous:
            table.add_section()
        difference = row.difference
        table.add_row(
            row.backbone if row.backbone != previous else "",
            row.variant,
            str(row.seeds) + (f" (+{row.diverged} diverged)" if row.diverged else ""),
            accuracy_text(row),
            "" if row.plain else difference_text(difference),
            *(_judgement(difference) if judged else ()),
            *((_beyond_text(row.beyond),) if controlled else ()),
            str(row.sites or ""),
            f"{_count_text(row.parameters)}{added_text(row, row.added_parameters, row.parameters)}",
            f"{row.macs / 1e6:.1f}{added_text(row, row.added_macs, row.macs)}",
            f"{row.seconds:.0f}",
        )
        previous = row.backbone
    return table


def _count_text(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"


def _judgement(difference: Difference | None) -> tuple[str, str, str]:
    return p_text(difference), verdict_text(difference), more_seeds_text(difference)


def _beyond_text(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{difference_text(difference)} {verdict_text(difference)}".rstrip()


def accuracy_text(row: Summary) -> str:
    """Mean in hundredths, with the standard deviation over seeds where there is one."""
    if row.score is None:
        return "diverged"
    spread = f" ± {100 * row.deviation:.1f}" if row.deviation is not None else ""
    return f"{100 * row.score:.1f}{spread}"


def interval_text(low: float | None, high: float | None, sign: str = "") -> str:
    """An interval in percent, or nothing."""
    if low is None or high is None:
        return ""
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def difference_text(difference: Difference | None) -> str:
    """Percentage points over the baseline, with the 95% interval where there is one."""
    if difference is None:
        return "—"
    interval = interval_text(difference.low, difference.high, "+")
    return f"{100 * difference.mean:+.1f} {interval}".rstrip()


def p_text(difference: Difference | None) -> str:
    """P after the correction, to two digits."""
    return "" if difference is None else small_p(difference.p_corrected)


def p_same_text(difference: Difference) -> str:
    """P of being the same within the margin, after the correction."""
    return small_p(difference.p_same_corrected)


def small_p(p: float | None) -> str:
    """A p to two digits, or nothing."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def number_text(number: float | None) -> str:
    """A number without unit, to two digits behind the point or to three in all."""
    if number is None:
        return ""
    return f"{number:.2f}" if abs(number) < 10 else f"{number:.3g}"


def points_text(points: float, measure: Measure = TOP1) -> str:
    """A number of hundredths of what is measured."""
    return f"1 {measure.point}" if points == 1 else f"{points:g} {measure.points}"


def verdict_text(difference: Difference | None) -> str:
    """The verdict, with the margin where the difference was shown to be within it; or nothing."""
    if difference is None or difference.verdict is None:
        return ""
    if difference.margin is None or not (difference.verdict == "same" or difference.is_small):
        return difference.verdict
    return f"{difference.verdict}, within ±{100 * difference.margin:g}"


def more_seeds_text(difference: Difference | None) -> str:
    """How many more seeds the chosen difference takes."""
    if difference is None or difference.verdict is None:
        return ""
    return _seeds_text(difference.more_seeds, difference)


def more_for_same_text(difference: Difference) -> str:
    """How many more seeds it takes to show that two which do not differ are the same."""
    if difference.verdict is None or difference.margin is None:
        return ""
    return _seeds_text(difference.more_for_same, difference)


def _seeds_text(seeds: int | None, difference: Difference) -> str:
    if seeds is None:
        return f"over {MOST_SEEDS}" if difference.deviation else "?"
    return str(seeds)


def added_text(row: Summary, added: int | None, total: int) -> str:
    """What a variant adds to the plain network, in percent of the latter."""
    if row.plain or added is None:
        return ""
    share = 100 * added / (total - added)
    return f" ({share:+.2f}%)" if abs(share) < 10 else f" ({share:+.0f}%)"
