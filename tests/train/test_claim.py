"""Claims: one process at a time, and none after its death."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attnzoo.train.claim import RunBusyError, claimed


def test_a_claim_is_the_operating_systems_lock(tmp_path: Path) -> None:
    with (tmp_path / ".run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(RunBusyError, match="another process is doing this run"),
            claimed(tmp_path / "run"),
        ):
            raise AssertionError
        fcntl.flock(file, fcntl.LOCK_UN)
        with claimed(tmp_path / "run"), pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_who_claims_may_claim_again(tmp_path: Path) -> None:
    lock = tmp_path / ".run.lock"
    with claimed(tmp_path / "run"):
        with claimed(tmp_path / "run"):
            (tmp_path / "run").mkdir()
        assert lock.exists()
    assert not lock.exists()  # what is finished needs no claim


def test_a_lock_file_of_an_unfinished_run_stays(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "deep" / "run"):
        _ = 1 / 0
    assert (tmp_path / "deep" / ".run.lock").exists()
    with claimed(tmp_path / "deep" / "run"):
        pass


@contextmanager
def locked_by_another(lock: Path, then: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, does what `then` says, and ends."""
    program = f"import fcntl, pathlib, time\nfile = open({str(lock)!r}, 'w')\n"
    program += f"fcntl.flock(file, fcntl.LOCK_EX)\nprint('locked', flush=True)\n{then}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with locked_by_another(tmp_path / ".run.lock", then="time.sleep(60)") as process:
        with pytest.raises(RunBusyError), claimed(tmp_path / "run"):
            raise AssertionError
        process.kill()
        process.wait()
        with claimed(tmp_path / "run"):
            pass


def test_waiting_for_a_claim(tmp_path: Path) -> None:
    table = tmp_path / "table"
    then = f"time.sleep(0.2)\npathlib.Path({str(table)!r}).write_text('theirs')"
    with (
        locked_by_another(tmp_path / ".table.lock", then),
        claimed(table, wait=True),
    ):
        assert table.read_text() == "theirs"
