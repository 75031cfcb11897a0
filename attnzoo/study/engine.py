"""Doing a study: what is finished is not done again, and what is left is shared out."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from attnzoo.checks import check_choice, check_int, counted
from attnzoo.errors import OptionError, StudyError
from attnzoo.study.definition import Study, check_study, load_study, parse_study
from attnzoo.study.numbers import (
    CONTRASTS,
    COSTS,
    is_measured,
    keep_contrasts,
    measure_costs,
    needed_runs,
    study_verdicts,
)
from attnzoo.study.report import write_report, write_results
from attnzoo.study.runs import (
    DATA,
    STUDY,
    TRACKED,
    Engine,
    Failure,
    InProcess,
    Job,
    Outcome,
    Processes,
    RayCluster,
    Record,
    StudyBars,
    begin_tracking,
    check_folder,
    conduct,
    data_of,
    finished_runs,
    first_data,
    forget_data,
    identified_study,
    is_finished,
    read_failures,
    read_folder,
    run_folder,
    run_tracking,
    same_study,
    shares_of_gpus,
    study_changes,
    take,
    tell_verdicts,
    write_data,
    write_study,
)
from attnzoo.train import RESULT, Interrupted, RunSpec, Watch, claimed

__all__ = ["StudyOutcome", "run_study"]

REPORTS = ("results.csv", "comparisons.csv", "report.md", "report.html")
WRITTEN = (STUDY, DATA, COSTS, CONTRASTS, TRACKED, *REPORTS)
SHARE = 0.1  # of the time at most that the table takes while the study goes on


@dataclass(frozen=True)
class StudyOutcome:
    """A study that is done, as far as it could be.

    Attributes:
        folder: where everything is.
        report: the report in it.
        records: its finished runs.
        repeated: how many of them were done by this call; the others were there already, or
            were done by another process meanwhile.
        failures: the runs that failed. The next call tries them again.
    """

    folder: Path
    report: Path
    records: list[Record]
    repeated: int
    failures: list[Failure]

    def __repr__(self) -> str:
        return (
            f"StudyOutcome({str(self.folder)!r}: {counted(len(self.records), 'run')} finished, "
            f"{self.repeated} of them by this call; {len(self.failures)} failed; "
            f"report: {str(self.report)!r})"
        )


@dataclass(frozen=True)
class Workforce:
    """Who does the runs. See `run_study`."""

    workers: int | None = None
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        check_choice("study", "engine", self.engine, ["local", "ray"])
        for name in ("workers", "threads"):
            if getattr(self, name) is not None:
                check_int("study", name, getattr(self, name), minimum=1)
        if self.address is not None and self.engine != "ray":
            raise OptionError(
                f"study: address={self.address!r} is that of a Ray cluster; say engine='ray' too."
            )


def run_study(
    study: str | Path | Study | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
    console: Console | None = None,
    repository: str | Path | None = None,
) -> StudyOutcome:
    """Do all runs of a study that are not done yet, then write its tables and its report.

    A finished run stays as it is, unless what it depends on has changed in the study. One that
    was interrupted goes on where it was. Several calls, on one machine or on many that share the
    folder, share the work: no run is done twice. A run that fails does not stop the others.

    Args:
        study: a YAML file, or its content.
        out: the study's folder; `runs/<name>` without it.
        workers: processes that do runs side by side, each a run at a time. Without it runs are
            done one after another in this process; with Ray, as many as the cluster has room for.
        engine: `"local"` is this machine, `"ray"` a Ray cluster.
        address: of the Ray cluster; without it one is started on this machine.
        threads: that each run computes with on a CPU. By default the machine's cores, shared out
            over the workers; with Ray 1. The last digits of results can depend on it.
        watch: is told about the progress of the runs, of several at a time where there are
            workers; progress bars without it.
        console: where those bars go; stderr without it.
        repository: a folder whose git commit the runs are to tell; without it that of the file.

    Raises:
        StudyError: the study is wrong; nothing was run, and the message lists every fault. Or
            its folder holds files of somebody else's by the names of the report and tables.
        OptionError: an argument is.
        DataError: its data are missing or inconsistent.
        MissingExtraError: a package of the extra `study`, or `ray`, is not installed.
        KeyboardInterrupt: it was interrupted; what is done is kept.
    """
    force = Workforce(workers, engine, address, threads)
    if repository is None:
        repository = Path(study).parent if isinstance(study, str | Path) else Path()
    if isinstance(study, str | Path):
        study = load_study(study)
    elif not isinstance(study, Study):
        study = parse_study(study)
    folder = Path(out) if out is not None else Path("runs") / study.name
    check_folder(folder, WRITTEN)
    forget_data()
    study = identified_study(study, folder)
    changed = study_changes(folder, study)
    runs = study.runs
    _check_devices(runs)
    missing = _missing(study, folder)
    if not missing and _is_told(folder, study) and is_measured(study, folder):
        return StudyOutcome(folder, folder / REPORTS[-1], read_folder(folder)[1], 0, [])
    data = data_of(first_data(study))
    if missing or study.strict:  # a run that is done may have been done without
        check_study(study, classes=len(data.classes))
    take(folder, WRITTEN)
    write_study(folder, study)
    write_data(folder, data)
    known = read_failures(folder, missing)
    parent = begin_tracking(study, folder)
    jobs = [
        Job(
            run=run,
            folder=run_folder(folder.absolute(), run),
            origin=Path(repository).absolute(),
            failed=known[run.id].attempt if run.id in known else None,
            tracking=run_tracking(study, run, parent),
        )
        for run in missing
    ]
    done = 0
    again = [f"{line}: its runs are done anew." for line in changed]
    if jobs and watch is None:
        with StudyBars(console) as bars:
            for line in again:
                bars.say(line)
            done = _do(study, jobs, force, folder, bars, None)
    elif jobs and watch is not None:
        for line in again:
            watch.say(line)
        done = _do(study, jobs, force, folder, None, watch)
    with claimed(folder / REPORTS[0], wait=True):
        if not same_study(folder, study):
            raise StudyError(
                f"while the runs were done, another study was written into {str(folder)!r}. What "
                f"is done is kept. Give each study a folder of its own (--out), and start again."
            )
        measure_costs(study, folder, len(data.classes))
        keep_contrasts(study, folder, data)
        report = write_report(folder)
        tell_verdicts(study, folder, study_verdicts(study, read_folder(folder)[1]))
    failures = list(read_failures(folder, missing).values())
    return StudyOutcome(folder, report, read_folder(folder)[1], done, failures)


def _missing(study: Study, folder: Path) -> list[RunSpec]:
    """The runs that are needed and not done."""
    results = [record.result for record in finished_runs(folder, study.runs)]
    needed = needed_runs(study, results)
    return [run for run in needed if not is_finished(run_folder(folder, run), run)]


def _check_devices(runs: Sequence[RunSpec]) -> None:
    """Refuse runs of several processes: these would start the study again, and again."""
    wide = next((run.train for run in runs if (run.train.devices, run.train.nodes) != (1, 1)), None)
    if wide is not None or os.environ.get("WORLD_SIZE", "1") != "1":
        asked = f"devices={wide.devices}, nodes={wide.nodes}" if wide else "torchrun"
        raise StudyError(
            f"{asked}: a run of a study trains on one device, and many runs go on side by side "
            f"(workers, or engine='ray'). Train a run on several with `attnzoo train`."
        )


def _is_told(folder: Path, study: Study) -> bool:
    """Whether the report tells of this study and of all that is finished."""
    try:
        told = min((folder / name).stat().st_mtime_ns for name in REPORTS)
        finished = [run_folder(folder, run) / RESULT for run in study.runs]
        results = [path.stat().st_mtime_ns for path in finished if path.exists()]
    except OSError:
        return False
    return same_study(folder, study) and max(results) <= told


def _do(
    study: Study,
    jobs: Sequence[Job],
    force: Workforce,
    folder: Path,
    bars: StudyBars | None,
    watch: Watch | None,
) -> int:
    """Have the jobs done; how many were done by this call."""
    table = _Table(folder)
    done = 0

    def tell(job: Job, outcome: Outcome) -> None:
        nonlocal done
        done += outcome is Outcome.DONE
        if bars is not None:
            bars.advance()
            if outcome is Outcome.FAILED:
                failure = read_failures(folder, [job.run])[job.run.id]
                bars.say(f"failed: {failure}")
        if outcome not in (Outcome.FAILED, Outcome.DECIDED):
            table.update()

    def watch_of(job: Job) -> Watch:
        return bars.watch() if bars is not None else watch or Watch()

    with _engine(force, jobs, watch_of) as engine, _stopped_by_sigterm():
        if bars is not None:
            bars.begin(len(jobs))
        try:
            idle = bars.waiting if bars is not None else lambda busy: None
            conduct(jobs, engine, tell, idle, _Wanted(study, folder))
        except KeyboardInterrupt:
            if bars is not None and not isinstance(engine, InProcess):
                bars.say("Stopping after the steps in progress. Ctrl-C again stops at once.")
            raise
    return done


@contextmanager
def _engine(force: Workforce, jobs: Sequence[Job], watch_of: Any) -> Generator[Engine]:
    workers = min(force.workers, len(jobs)) if force.workers else None
    if force.engine == "ray":
        with RayCluster(force.address, force.threads or 1, watch_of, workers) as cluster:
            yield cluster
    elif workers is not None:
        threads = force.threads or max(1, torch.get_num_threads() // workers)
        with Processes(workers, threads, watch_of, shares_of_gpus(workers)) as processes:
            yield processes
    else:
        before = torch.get_num_threads()
        torch.set_num_threads(force.threads or before)
        try:
            yield InProcess(watch_of)
        finally:
            torch.set_num_threads(before)


@contextmanager
def _stopped_by_sigterm() -> Generator[None]:
    """Let SIGTERM stop a study as Ctrl-C does, so that its workers are not left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, *_: object) -> None:
        raise Interrupted("", number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Wanted:
    """Whether a run still has to be done; asked anew only once further runs are finished."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.finished = -1
        self.missing: set[str] = set()

    def __call__(self, job: Job) -> bool:
        if self.study.look_from is None:
            return True
        finished = sum(is_finished(run_folder(self.folder, run), run) for run in self.study.runs)
        if finished != self.finished:
            self.finished = finished
            self.missing = {run.id for run in _missing(self.study, self.folder)}
        return job.run.id in self.missing


class _Table:
    """`results.csv` while the study goes on, without spending much time on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.due = 0.0

    def update(self) -> None:
        began = time.monotonic()
        if began >= self.due:
            with claimed(self.folder / REPORTS[0], wait=True):
                write_results(self.folder)
            now = time.monotonic()
            self.due = now + (now - began) * (1 / SHARE - 1)
