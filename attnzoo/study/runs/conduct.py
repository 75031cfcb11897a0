"""Conducting a study: which run goes to the engine next, and what becomes of it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Protocol

from attnzoo.study.runs.attempt import Job, Outcome, attempt
from attnzoo.study.runs.failures import note_failure
from attnzoo.study.runs.record import is_finished
from attnzoo.train import RunBusyError, Watch, claimed

__all__ = ["Engine", "InProcess", "Report", "conduct"]

LOOK_AGAIN = 1.0  # seconds until a run that somebody else does is looked at again
TRIES = 2  # of a run whose process dies

Report = tuple[Job, Outcome, str]
"""A job, what came of it, and, where its process died, how."""


class Engine(Protocol):
    """Does runs, some at a time."""

    slots: int
    """How many at a time."""

    def start(self, job: Job) -> None:
        """Begin with a run."""

    def wait(self, seconds: float | None) -> list[Report]:
        """What has come of runs; waits for the first, at most so long."""
        ...


class InProcess:
    """Does one run at a time, here.

    Args:
        watch_of: gives the watch of a run.
    """

    slots = 1

    def __init__(self, watch_of: Callable[[Job], Watch]) -> None:
        self.watch_of = watch_of
        self.reports: list[Report] = []

    def start(self, job: Job) -> None:
        self.reports.append((job, attempt(job, self.watch_of(job)), ""))

    def wait(self, seconds: float | None) -> list[Report]:
        reports, self.reports = self.reports, []
        return reports


def conduct(
    jobs: Iterable[Job],
    engine: Engine,
    tell: Callable[[Job, Outcome], None],
    idle: Callable[[int], None] = lambda busy: None,
    wanted: Callable[[Job], bool] = lambda job: True,
) -> None:
    """Have every run done: by the engine, or by whoever else shares the folder.

    A run that somebody else is doing is looked at again until it is done, or free because that
    process died. A run whose own process dies is tried once more, then it counts as failed.

    Args:
        jobs: what to do.
        engine: does it.
        tell: is told the end of each: done, found done, failed, or decided without it.
        idle: is told how many runs are left when all of them are somebody else's at the moment.
        wanted: is asked just before a run begins whether it still has to be done.
    """
    fresh = deque(jobs)
    busy: deque[tuple[float, Job]] = deque()  # with the time to look again
    died: Counter[str] = Counter()
    running = 0
    while fresh or busy or running:
        while running < engine.slots and (fresh or (busy and busy[0][0] <= time.monotonic())):
            job = fresh.popleft() if fresh else busy.popleft()[1]
            if wanted(job):
                engine.start(job)
                running += 1
            else:
                tell(job, Outcome.DECIDED)
        if not running and not busy:
            break
        if not running:
            idle(len(busy))
            time.sleep(max(0.0, busy[0][0] - time.monotonic()))
            continue
        room = running < engine.slots and busy
        for job, outcome, how in engine.wait(LOOK_AGAIN if room else None):
            running -= 1
            if outcome is Outcome.DIED:
                died[job.run.id] += 1
                if died[job.run.id] < TRIES:
                    fresh.append(job)
                    continue
                outcome = _lost(job, how)
            if outcome is Outcome.BUSY:
                busy.append((time.monotonic() + LOOK_AGAIN, job))
            else:
                tell(job, outcome)


def _lost(job: Job, how: str) -> Outcome:
    """Give up a run that has killed its process again, unless somebody else takes it on."""
    message, _, output = how.partition("\n")
    try:
        with claimed(job.folder):
            if is_finished(job.folder, job.run):
                return Outcome.FOUND
            note_failure(job.folder, job.run, f"{message}, {TRIES} times", output)
            return Outcome.FAILED
    except RunBusyError:
        return Outcome.BUSY
