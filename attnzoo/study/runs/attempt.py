"""One attempt at one run, in whichever process: claim it, see that nobody has done it, do it."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from attnzoo.study.runs.failures import forget_failure, note_failure, read_failure
from attnzoo.study.runs.folder import is_finished
from attnzoo.train import (
    DataSpec,
    ImageData,
    RunBusyError,
    RunSpec,
    Watch,
    claimed,
    open_data,
    train,
)

__all__ = ["Job", "Outcome", "attempt", "data_of"]


class Outcome(Enum):
    """What came of an attempt."""

    DONE = "done"
    FOUND = "found"  # another process had done it
    BUSY = "busy"  # another process is at it
    FAILED = "failed"  # the run raised, here or, since the study began, elsewhere
    DIED = "died"  # the process that did it is gone
    DECIDED = "decided"  # nobody needs it any more


@dataclass(frozen=True)
class Job:
    """A run to be done, and all that another process has to know to do it.

    Attributes:
        run: what to do.
        folder: where it belongs.
        origin: whose git state is kept with it.
        failed: the failure that was known when the study began; None was none.
    """

    run: RunSpec
    folder: Path
    origin: Path
    failed: str | None = None


@functools.lru_cache(maxsize=8)
def data_of(spec: DataSpec) -> ImageData:
    """`open_data`, once a process."""
    return open_data(spec)


def attempt(job: Job, watch: Watch, opened: Callable[[DataSpec], ImageData] = data_of) -> Outcome:
    """Try to do a run. What it raises is kept as a failure; only interrupts go on."""
    try:
        with claimed(job.folder):
            if is_finished(job.folder):
                return Outcome.FOUND
            known = read_failure(job.folder)
            if known is not None and known.attempt != job.failed:
                return Outcome.FAILED
            forget_failure(job.folder)
            return _do(job, watch, opened)
    except RunBusyError:
        return Outcome.BUSY


def _do(job: Job, watch: Watch, opened: Callable[[DataSpec], ImageData]) -> Outcome:
    told = ""
    try:
        try:
            data = opened(job.run.data)
        except Exception:
            told = traceback.format_exc()  # what comes later is in the run's log already
            raise
        train(job.run, job.folder, data=data, watch=watch, repository=job.origin)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        note_failure(job.folder, job.run, why, told)
        return Outcome.FAILED
    return Outcome.DONE
