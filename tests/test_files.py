"""Files that are there whole or not at all: where the disk is full, what was there stays."""

from __future__ import annotations

import errno
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from before import old_study
from zoo import PlainVGG

import attnzoo
from attnzoo.errors import CheckpointError, OptionError
from attnzoo.files import written_whole
from attnzoo.study import export_study
from attnzoo.train.log import run_log
from attnzoo.train.watch import Watch


@contextmanager
def largest(size: int) -> Generator[None]:
    """Files can't become larger inside, as on a disk that has no more room."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_does_not_fit_leaves_what_was_there(there: bool, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    if there:
        path.write_text("before")
    with (
        pytest.raises(OSError, match="File too large"),
        largest(100),
        written_whole(path) as partial,
    ):
        partial.write_text("x" * 1000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"] * there
    assert not there or path.read_text() == "before"
    with written_whole(path) as partial:
        partial.write_text("after")
    assert path.read_text() == "after"


def test_torch_has_no_words_of_its_own_for_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with (
        pytest.raises(OSError, match="File too large") as caught,
        largest(1000),
        written_whole(path) as partial,
        partial.open("wb") as file,
    ):
        torch.save(torch.zeros(10_000), file)
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def fail() -> None:
        with written_whole(tmp_path / "x") as partial:
            partial.write_text("half")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert not list(tmp_path.iterdir())


def test_weights_that_do_not_fit_leave_the_file_that_was_there(tmp_path: Path) -> None:
    model = attnzoo.wrap(PlainVGG(), "pre-pool", "se", example=(3, 16, 16))
    path = tmp_path / "attention.safetensors"
    attnzoo.save(model, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="cannot write"), largest(1000):
        attnzoo.save(model, path, what="all")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits")
def test_a_log_without_room_prints_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with largest(10), run_log(tmp_path / "log.txt", Watch()) as watch:
        watch.say("a line of more than ten bytes")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["latex", "csv", "json"])
def test_no_file_of_another_kind_is_written_over(option: str, tmp_path: Path) -> None:
    mine = tmp_path / "network.safetensors"
    mine.write_bytes(b"weights")
    with pytest.raises(OptionError, match=r"is there, and no file that ends in"):
        export_study(old_study(tmp_path / "study"), **{option: mine})
    assert mine.read_bytes() == b"weights"
