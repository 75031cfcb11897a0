"""Claims: one process at a time, and none after its death."""

from __future__ import annotations

import fcntl
import os
import signal
import time
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


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with claimed(tmp_path / "run"):
            os.write(writing, b"x")
            time.sleep(60)
        os._exit(1)
    assert os.read(reading, 1) == b"x"
    with pytest.raises(RunBusyError), claimed(tmp_path / "run"):
        raise AssertionError
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with claimed(tmp_path / "run"):
        pass
    os.close(reading)
    os.close(writing)


def test_waiting_for_a_claim(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with claimed(tmp_path / "table"):
            os.write(writing, b"x")
            time.sleep(0.2)
            (tmp_path / "table").write_text("theirs")
        os._exit(0)
    assert os.read(reading, 1) == b"x"
    with claimed(tmp_path / "table", wait=True):
        assert (tmp_path / "table").read_text() == "theirs"
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
