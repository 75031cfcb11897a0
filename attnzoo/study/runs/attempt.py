"""One attempt at one run, in whichever process: claim it, see that nobody has done it, do it."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from attnzoo.study.runs.failures import forget_failure, note_failure, read_failure
from attnzoo.study.runs.record import is_finished, put_damaged_aside
from attnzoo.train import (
    DataSpec,
    ImageData,
    RunBusyError,
    RunSpec,
    Tracking,
    Watch,
    claimed,
    open_data,
    train,
)

__all__ = ["Job", "Outcome", "attempt", "data_of", "forget_data"]


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
        tracking: its group and tags in trackers.
    """

    run: RunSpec
    folder: Path
    origin: Path
    failed: str | None = None
    tracking: Tracking | None = None


def data_of(spec: DataSpec) -> ImageData:
    """`open_data`, once a process."""
    return _opened(type(spec), spec.model_dump_json())


def forget_data() -> None:
    """The next `data_of` looks again."""
    _opened.cache_clear()


@functools.lru_cache(maxsize=8)
def _opened(kind: type[DataSpec], written: str) -> ImageData:
    return open_data(kind.model_validate_json(written))


def attempt(job: Job, watch: Watch, opened: Callable[[DataSpec], ImageData] = data_of) -> Outcome:
    """Try to do a run. What it raises is kept as a failure; only interrupts go on."""
    try:
        with claimed(job.folder):
            if is_finished(job.folder, job.run):
                return Outcome.FOUND
            for line in put_damaged_aside(job.folder, job.run):
                watch.say(line)
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
            data = opened(job.run.prepared)
        except Exception:
            told = traceback.format_exc()  # what comes later is in the run's log already
            raise
        train(
            job.run,
            job.folder,
            data=data,
            watch=watch,
            repository=job.origin,
            tracking=job.tracking,
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a network may call sys.exit, too
        note_failure(job.folder, job.run, _why(error), told)
        return Outcome.FAILED
    return Outcome.DONE


def _why(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"something in it ended the program, by sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}".partition("\n")[0]
