"""`attnzoo ablate` and `attnzoo report`: a study, and what it found."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from rich.box import SIMPLE as HORIZONTALS
from rich.console import Console
from rich.table import Table

from attnzoo.checks import counted
from attnzoo.cli.console import (
    megas,
    progress_console,
    result_console,
    show_table,
    working,
)
from attnzoo.cli.options import UsageError, given_path
from attnzoo.cli.runs import show_runs
from attnzoo.errors import AttnzooError

if TYPE_CHECKING:
    from attnzoo.study import Study

__all__ = ["ablate", "report"]

WORK = Group("Work", sort_key=2)
FILES = Group("Files for others", sort_key=2)

FAILURES_SHOWN = 5

MARKS = {"finished": "", "timed": "~", "scaled": "≈", "unknown": ""}
"""Before the time of a run: how it is known."""

LEGEND = {
    "finished": "  s   the mean of its finished runs",
    "timed": "~ s   from a training step, timed on this machine just now",
    "scaled": "≈ s   from another variant of the backbone by their MACs: blocks can be slower",
}

EXPENDABLE = (
    *("seconds", "sites", "MMACs", "parameters"),
    *("seeds", "more seeds", "p (Holm)", "p (FDR)", "vs control"),
)
"""Columns of a study's table that a narrow terminal can do without, first to go first."""


def ablate(
    study: Annotated[Path, Parameter(help="The study: a YAML file.")],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            metavar="DIR",
            help="The study's folder, by default `runs/<name of the study>`.",
            converter=given_path,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            help="Check the study, list its runs and estimate their time; train nothing.",
            show_default=False,
        ),
    ] = False,
    strict: Annotated[
        bool,
        Parameter(
            help="Refuse a study with a backbone whose forward pass cannot be followed to its "
            "end, as `strict: true` in its file does.",
            negative="",
            show_default=False,
        ),
    ] = False,
    workers: Annotated[
        int | None,
        Parameter(
            metavar="N",
            help="Do N runs at a time, each in a process of its own; with several GPUs each has "
            "one. By default one run at a time, and with Ray as many as the cluster has room for.",
            group=WORK,
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        Parameter(help="Where the runs are done: this machine, or a Ray cluster.", group=WORK),
    ] = "local",
    address: Annotated[
        str | None,
        Parameter(
            help="Of the Ray cluster, or `auto`; without it one is started on this machine.",
            group=WORK,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        Parameter(
            metavar="N",
            help="Threads that each run computes with on a CPU. By default the cores, shared out "
            "over the workers; with Ray 1.",
            group=WORK,
        ),
    ] = None,
) -> None:
    """Do a study: backbones × attention × seeds, with a table and a report."""
    with working("Reading the study"):
        from attnzoo.study import load_study, run_study

        asked = load_study(study)
        if strict:
            asked = asked.model_copy(update={"strict": True})
        folder = out or Path("runs") / asked.name
    if dry_run:
        _show_plan(asked, folder, workers)
        return
    try:
        with redirect_stdout(sys.stderr):
            outcome = run_study(
                asked,
                folder,
                workers=workers,
                engine=engine,
                address=address,
                threads=threads,
                repository=study.parent,
                console=progress_console(),
            )
    except KeyboardInterrupt as error:
        error.args = ("What is done is kept; the same command goes on from there.",)
        raise
    _show_outcome(outcome.folder, outcome.report)
    failed = len(outcome.failures)
    runs = len(outcome.records) + failed
    if failed:
        shown = [f"- {failure}" for failure in outcome.failures[:FAILURES_SHOWN]]
        more = [f"… and {failed - FAILURES_SHOWN} more"] if failed > FAILURES_SHOWN else []
        listed = "\n".join([*shown, *more])
        raise AttnzooError(
            f"{failed} of {counted(runs, 'run')} failed; the same command tries them again."
            f"\n{listed}"
        )
    if not outcome.repeated:
        result_console().print(
            "The one run was done already." if runs == 1 else f"All {runs} runs were done already."
        )


def report(
    folder: Annotated[
        Path, Parameter(help="A folder that `attnzoo ablate` wrote, or a run of `attnzoo train`.")
    ],
    /,
    *others: Annotated[
        Path, Parameter(metavar="OTHERS", help="Other ones of the same kind, to compare with.")
    ],
    out: Annotated[
        Path | None,
        Parameter(
            metavar="DIR",
            help="Where to put the comparison, by default `runs/<A>+<B>` of A and B.",
            converter=given_path,
        ),
    ] = None,
    latex: Annotated[
        Path | None,
        Parameter(
            metavar="FILE",
            help="Also write a LaTeX table of the study, to be \\input.",
            group=FILES,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        Parameter(
            metavar="FILE", help="Also write a row a variant (of runs, a row a run).", group=FILES
        ),
    ] = None,
    json: Annotated[
        Path | None,
        Parameter(
            metavar="FILE", help="Also write variants, comparisons and sentences.", group=FILES
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        Parameter(metavar="DIR", help="Also write every plot as PDF and as SVG.", group=FILES),
    ] = None,
    publish: Annotated[
        Path | None,
        Parameter(
            metavar="DIR",
            help="Also copy all that the report rests on, without weights, to be handed on.",
            group=FILES,
        ),
    ] = None,
) -> None:
    """Write the report of a study anew, or compare several studies, or runs of `attnzoo train`."""
    files = {"latex": latex, "csv": csv, "json": json, "figures": figures}
    asked = [f"--{name}" for name, path in files.items() if path is not None]
    asked += [] if publish is None else ["--publish"]
    if not any((place / "study.json").exists() for place in (folder, *others)):
        asked += [] if out is None else ["--out"]
        show_runs([folder, *others], csv, [name for name in asked if name != "--csv"])
        return
    if others and asked:
        raise UsageError(f"{', '.join(asked)}: of one study alone, not of a comparison.")
    if not others:
        if out is not None:
            raise UsageError("--out is for comparisons; a study's report goes into its folder.")
        with working("Writing the report"):
            from attnzoo.study import export_study, publish_study, write_report

            path = write_report(folder)
            written = export_study(folder, **files) if asked else []
            written += [] if publish is None else [publish_study(folder, publish)]
        _show_outcome(folder, path)
        for path in written:
            result_console().print(f"Written: {path}", soft_wrap=True)
        from attnzoo.study.runs import damages, read_folder

        for line in damages(folder, *read_folder(folder)):
            result_console().print(line, soft_wrap=True)
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


def _show_plan(study: Study, folder: Path, workers: int | None) -> None:
    """What a study would do: a row per backbone and variant."""
    with working("Checking the study"):
        from attnzoo.study import WRITTEN, check_study
        from attnzoo.study.runs import (
            check_folder,
            first_data,
            identified_study,
            read_run,
            run_folder,
            study_changes,
        )
        from attnzoo.train import open_data

        check_folder(folder, WRITTEN)
        study = identified_study(study, folder)
        changed = study_changes(folder, study)
        data = open_data(first_data(study))
        cells = check_study(study, classes=len(data.classes))
    with working("Timing some steps"):
        from attnzoo.study.runs import forecast

        records = {run.id: read_run(run_folder(folder, run), run) for run in study.runs}
        times = forecast(study, cells, filter(None, records.values()), data)
    rows, left, unknown = [], 0.0, 0
    for cell, time in zip(cells, times, strict=True):
        runs = [study.run(cell.backbone, cell.variant, seed) for seed in study.seeds]
        missing = sum(records[run.id] is None for run in runs)
        left += missing * (time.seconds or 0)
        unknown += missing * (time.seconds is None)
        recipe = runs[0].train
        rows.append(
            [
                cell.backbone.name,
                cell.variant.title,
                f"{missing} of {len(runs)}",
                str(recipe.epochs),
                str(recipe.epochs * (len(data.train) // recipe.batch_size)),
                str(cell.sites or ""),
                f"{cell.parameters:,}",
                f"{cell.added_parameters:,}" if cell.sites else "",
                megas(cell.macs),
                megas(cell.added_macs) if cell.sites else "",
                f"{MARKS[time.how]}{_seconds(time.seconds)}",
            ]
        )
    columns = {"backbone": "left", "variant": "fold"} | dict.fromkeys(
        (
            *("to do", "epochs", "steps", "sites", "parameters", "added"),
            *("MMACs", "added ", "a run"),
        ),
        "right",
    )
    runs, missing = len(records), sum(record is None for record in records.values())
    title = f"{study.name}: {counted(runs, 'run')}, {missing} of them to do"
    show_table(title, columns, rows)
    console = result_console()
    console.print()
    for line in changed:
        console.print(f"{line}: its runs are done anew.", soft_wrap=True)
    if missing:
        side = (
            f", {_seconds(left / workers)} with {counted(workers, 'worker')} at best"
            if workers
            else ""
        )
        but = f", and {counted(unknown, 'run')} of unknown length" if unknown else ""
        console.print(f"About {_seconds(left)} one after another{side}{but}.")
    for how, text in LEGEND.items():
        if how in {time.how for time in times}:
            console.print(text)
    console.print(f"\nNothing was trained. Folder: {folder}", soft_wrap=True)


def _seconds(seconds: float | None) -> str:
    """A length of time, in two units at most."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 72 else f"{round(hours / 24)} days"
