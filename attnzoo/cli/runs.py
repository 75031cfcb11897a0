"""What `attnzoo report` shows of single runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnzoo.cli.console import megas, result_console, show_table, working
from attnzoo.cli.options import UsageError

__all__ = ["show_runs"]


def show_runs(paths: Sequence[Path], csv: Path | None, unfit: Sequence[str]) -> None:
    """Print single runs side by side.

    Args:
        paths: folders of runs, or folders that hold some.
        csv: a file for a row a run.
        unfit: flags that are for studies alone.

    Raises:
        UsageError: there are such flags.
        StudyError: a folder holds no finished run.
    """
    with working("Reading the runs"):
        from attnzoo.study import runs_in, side_by_side, write_runs

        found = side_by_side(runs_in(paths))
    if unfit:
        raise UsageError(f"{', '.join(unfit)}: of studies, not of runs of `attnzoo train`.")
    rows = []
    for number, record in enumerate(found.records, start=1):
        result = record.result
        rows.append(
            [
                str(number),
                result.backbone,
                result.variant,
                str(result.seed),
                "trained" if result.weights else "fresh",
                *(_share(value) for value in (result.top1, result.balanced)),
                "–" if result.test_loss is None else f"{result.test_loss:.3f}",
                str(result.sites or ""),
                f"{result.parameters:,}",
                megas(result.macs),
                f"{result.seconds:.0f}",
            ]
        )
    columns = {"run": "right", "backbone": "left", "variant": "fold"} | dict.fromkeys(
        (
            *("seed", "weights", "top-1", "balanced", "test loss"),
            *("sites", "parameters", "MMACs", "seconds"),
        ),
        "right",
    )
    show_table("Runs", columns, rows)
    console = result_console()
    for number, record in enumerate(found.records, start=1):
        console.print(f"{number}: {record.folder}", soft_wrap=True)
    if found.settings:
        console.print()
        columns = {"setting": "left"} | {str(n): "fold" for n in range(1, len(rows) + 1)}
        show_table("What differs", columns, [[name, *values] for name, values in found.settings])
    for note in found.notes:
        console.print(f"\n{note}")
    if csv is not None:
        write_runs(found.records, csv)
        console.print(f"\nWritten: {csv}", soft_wrap=True)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"
