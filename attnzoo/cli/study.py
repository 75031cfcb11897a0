"""`attnzoo ablate` and `attnzoo report`: a study, and what it found."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.box import SIMPLE as HORIZONTALS
from rich.console import Console
from rich.table import Table

from attnzoo.cli.console import progress_console, result_console, show_table, working
from attnzoo.cli.options import UsageError

if TYPE_CHECKING:
    from attnzoo.study import Study

__all__ = ["ablate", "report"]

EXPENDABLE = (
    *("seconds", "sites", "MMACs", "parameters"),
    *("seeds", "more seeds", "p (Holm)", "vs control"),
)
"""Columns of a study's table that a narrow terminal can do without, first to go first."""


def ablate(
    study: Annotated[Path, Parameter(help="The study: a YAML file.")],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(metavar="DIR", help="The study's folder, by default `runs/<name of the study>`."),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(help="Check the study and list its runs; train nothing.", show_default=False),
    ] = False,
) -> None:
    """Do a study: backbones × attention × seeds, with a table and a report."""
    with working("Reading the study"):
        from attnzoo.study import check_study, load_study, run_study
        from attnzoo.study.folder import read_run, run_folder
        from attnzoo.train import ProgressWatch, open_data

        asked = load_study(study)
        folder = out or Path("runs") / asked.name
        missing = [run for run in asked.runs if read_run(run_folder(folder, run)) is None]
    if dry_run:
        with working("Checking the study"):
            data = open_data(asked.data)
            check_study(asked, classes=len(data.classes))
        _show_runs(asked, folder, len(data.train), {run.id for run in missing})
        return
    try:
        with redirect_stdout(sys.stderr), ProgressWatch(progress_console(), len(missing)) as watch:
            watch.current = watch.bars.add_task("Preparing", total=None, note="")
            outcome = run_study(asked, folder, watch=watch)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "Finished runs are kept; the same command goes on with the others."
        ) from None
    _show_outcome(outcome.folder, outcome.report)


def report(
    folder: Annotated[Path, Parameter(help="A folder that `attnzoo ablate` wrote.")],
    /,
    *others: Annotated[Path, Parameter(help="Other ones, to compare with.")],
    out: Annotated[
        Path | None,
        Parameter(
            metavar="DIR", help="Where to put the comparison, by default `runs/<A>+<B>` of A and B."
        ),
    ] = None,
) -> None:
    """Write the tables and the report of a study anew, or compare several studies on one page."""
    if not others:
        if out is not None:
            raise UsageError("--out is for comparisons; a study's report goes into its folder.")
        with working("Writing the report"):
            from attnzoo.study import write_report

            path = write_report(folder)
        _show_outcome(folder, path)
        return
    folders = [folder, *others]
    out = out or Path("runs") / "+".join(entry.resolve().name for entry in folders)
    with working("Writing the comparison"):
        from attnzoo.study import write_comparison

        path = write_comparison(folders, out)
    result_console().print(f"Report:  {path}", soft_wrap=True)


def _show_outcome(folder: Path, report: Path) -> None:
    from attnzoo.study import study_table

    console = result_console()
    table = study_table(folder)
    fitting = _fit(table, console)
    console.print(fitting)
    if len(fitting.columns) < len(table.columns):
        console.print("A wider terminal, the report and results.csv show more columns.")
    console.print(f"Runs:    {folder / 'results.csv'}\nReport:  {report}", soft_wrap=True)


def _fit(table: Table, console: Console) -> Table:
    """The table in the style of the others, without what matters least where it is too wide."""
    for dropped in range(len(EXPENDABLE) + 1):
        columns = [c for c in table.columns if c.header not in EXPENDABLE[:dropped]]
        fitting = Table(
            title=table.title, title_justify="left", title_style="bold", box=HORIZONTALS
        )
        for column in columns:
            fitting.add_column(column.header, justify=column.justify, header_style="dim")
        for style, *cells in zip(table.rows, *(column.cells for column in columns), strict=True):
            fitting.add_row(*cells, end_section=style.end_section)
        if (
            console.measure(fitting, options=console.options.update(width=999)).maximum
            <= console.width
        ):
            break
    return fitting


def _show_runs(study: Study, folder: Path, images: int, missing: set[str]) -> None:
    columns = {
        "backbone": "left",
        "variant": "fold",
        "seed": "right",
        "epochs": "right",
        "steps": "right",
        "": "left",
    }
    rows = [
        [
            run.backbone,
            run.variant.title,
            str(run.train.seed),
            str(run.train.epochs),
            str(run.train.epochs * (images // run.train.batch_size)),
            "" if run.id in missing else "done",
        ]
        for run in study.runs
    ]
    show_table(f"{study.name}: {len(rows)} runs, {len(missing)} of them to do", columns, rows)
    result_console().print(f"\nNothing was trained. Folder: {folder}", soft_wrap=True)
