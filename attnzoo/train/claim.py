"""Claims: while one process does a run, no other does the same run into the same folder.

A claim is a lock of the operating system on a file beside the run's folder. The kernel takes it
back when the process dies, however it dies, so nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from attnzoo.errors import AttnzooError, DataError

__all__ = ["RunBusyError", "claimed"]


class RunBusyError(AttnzooError, RuntimeError):
    """Another process is doing this run."""


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Generator[None]:
    """Hold the claim on a run's folder, or on a file. The same thread may claim it again.

    Args:
        path: of what is claimed, whether it is there yet or not.
        wait: until it is free.

    Raises:
        RunBusyError: another process, or another thread, holds it.
        DataError: the place cannot be written to.
    """
    beside = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(beside, is_singleton=True)
        lock.acquire(blocking=wait)
    except Timeout:
        raise RunBusyError(
            f"{str(path)!r}: another process is doing this run. Wait for it, or end it; what it "
            f"has done so far is kept."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no system takes
        raise DataError(f"nothing can be written at {str(path)!r}: {error}.") from error
    try:
        yield
    finally:
        # Who waits for this very file looks for the result first, so none is done twice.
        if lock.lock_counter == 1 and path.exists():
            beside.unlink(missing_ok=True)
        lock.release()
