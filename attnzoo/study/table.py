"""The study's table, for the terminal and for `results.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.table import Table

from attnzoo.study.folder import Record
from attnzoo.study.stats import Difference, Summary, summarise
from attnzoo.train.spec import RunResult

__all__ = [
    "accuracy_text",
    "added_text",
    "difference_text",
    "results_csv",
    "results_table",
]

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


def results_table(records: Sequence[Record], title: str = "") -> Table:
    """One row per backbone and variant, for a terminal."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in ("backbone", "variant"):
        table.add_column(name, no_wrap=name == "backbone")
    for name in ("seeds", "top-1 %", "vs plain", "sites", "parameters", "MMACs", "seconds"):
        table.add_column(name, justify="right")
    previous = None
    for row in summarise(record.result for record in records):
        if previous is not None and row.backbone != previous:
            table.add_section()
        table.add_row(
            row.backbone if row.backbone != previous else "",
            row.variant,
            str(row.seeds) + (f" (+{row.diverged} diverged)" if row.diverged else ""),
            accuracy_text(row),
            "" if row.plain else difference_text(row.difference),
            str(row.sites or ""),
            f"{row.parameters / 1e6:.2f} M{added_text(row, row.added_parameters, row.parameters)}",
            f"{row.macs / 1e6:.1f}{added_text(row, row.added_macs, row.macs)}",
            f"{row.seconds:.0f}",
        )
        previous = row.backbone
    return table


def accuracy_text(row: Summary) -> str:
    """Mean top-1 in percent, with the standard deviation over seeds where there is one."""
    if row.top1 is None:
        return "diverged"
    spread = f" ± {100 * row.deviation:.1f}" if row.deviation is not None else ""
    return f"{100 * row.top1:.1f}{spread}"


def difference_text(difference: Difference | None) -> str:
    """Percentage points over plain, with the 95% interval where there is one."""
    if difference is None:
        return "—"
    text = f"{100 * difference.mean:+.1f}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def added_text(row: Summary, added: int | None, total: int) -> str:
    """What a variant adds to the plain network, in percent of the latter."""
    if row.plain or added is None:
        return ""
    share = 100 * added / (total - added)
    return f" ({share:+.2f}%)" if abs(share) < 10 else f" ({share:+.0f}%)"
