"""Files of tensors: their mode, links, what killed saves leave behind, and what cannot be kept."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import CheckpointError

SIZE = (3, 16, 16)
ROOT_IGNORES_MODES = hasattr(os, "geteuid") and os.geteuid() == 0


def net(*extra: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *extra)


def wrapped(*extra: nn.Module) -> nn.Module:
    return attnzoo.wrap(net(*extra), "pre-pool", "se", example=SIZE, reduction=4)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_has_the_mode_that_the_umask_gives_and_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    before = os.umask(0o027)
    try:
        attnzoo.save(wrapped(), path)
        assert mode(path) == 0o640
        path.chmod(0o664)
        attnzoo.save(wrapped(), path)
        assert mode(path) == 0o664
    finally:
        os.umask(before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for name in ("there", "dangling"):
        (tmp_path / name).symlink_to(tmp_path / "store" / f"{name}.safetensors")
    (tmp_path / "store" / "there.safetensors").write_bytes(b"old")
    for name in ("there", "dangling"):
        attnzoo.save(wrapped(), tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert attnzoo.load(tmp_path / "store" / f"{name}.safetensors").what == "attention"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CheckpointError):
        attnzoo.save(wrapped(), tmp_path / "loop")


def test_what_is_no_file_is_neither_replaced_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, said in (("pipe", "no file"), ("folder", "it is no run's folder")):
        with pytest.raises(CheckpointError, match="no file"):
            attnzoo.save(wrapped(), tmp_path / name)
        with pytest.raises(CheckpointError, match=said):
            attnzoo.load(tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize("name", ["x" * 240, "x" * 300, "a\0b", "a\udc80"])
def test_names_that_the_system_may_not_take(tmp_path: Path, name: str) -> None:
    try:
        attnzoo.save(wrapped(), tmp_path / name)
    except CheckpointError:
        assert not list(tmp_path.iterdir())
    else:
        assert [os.fsencode(entry) for entry in os.listdir(tmp_path)] == [os.fsencode(name)]


@pytest.mark.skipif(ROOT_IGNORES_MODES, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="cannot write"):
            attnzoo.save(wrapped(), tmp_path / "a.safetensors")
    finally:
        tmp_path.chmod(0o700)


KILLED = """
import sys, os, signal, torch, attnzoo, attnzoo.checkpoint.tensor_files as files
from torch import nn
files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
attnzoo.wrap(model, "pre-pool", "se", example=(3, 16, 16), reduction=4)
attnzoo.save(model, sys.argv[1])
"""


def test_what_a_killed_save_left_goes_with_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    attnzoo.save(wrapped(), tmp_path / "b.safetensors")  # another file's are its own business
    assert len(list(tmp_path.iterdir())) == 2
    attnzoo.save(wrapped(), path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


class Stateful(nn.Identity):
    """Keeps something that is no tensor."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        self.state = state

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state


@pytest.mark.parametrize("state", [{"version": 2}, [1, "two", None], torch.arange(3)], ids=str)
def test_extra_state_of_modules_comes_along(tmp_path: Path, state: Any) -> None:
    attnzoo.save(wrapped(Stateful(state)), tmp_path / "a.safetensors", what="all")
    again = attnzoo.load(tmp_path / "a.safetensors", net(Stateful({})))
    found = again[-1].state
    assert torch.equal(found, state) if isinstance(state, torch.Tensor) else found == state
    model = wrapped(Stateful({}))
    attnzoo.load_backbone(model, net(Stateful({"version": 3})).state_dict())
    assert model[-1].state == {"version": 3}


@pytest.mark.parametrize(
    "state",
    [(1, 2), {1: 2}, object(), b"x", {"x": float("nan")}],
    ids=lambda state: type(state).__name__,
)
def test_extra_state_that_json_cannot_keep_is_refused(tmp_path: Path, state: Any) -> None:
    with pytest.raises(CheckpointError, match="JSON"):
        attnzoo.save(wrapped(Stateful(state)), tmp_path / "a.safetensors", what="all")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("buffer", "told"),
    [
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(2, dtype=torch.complex128), "complex128"),
    ],
    ids=["sparse", "complex"],
)
def test_tensors_that_the_format_has_not(tmp_path: Path, buffer: torch.Tensor, told: str) -> None:
    model = wrapped()
    model.register_buffer("odd", buffer)
    with pytest.raises(CheckpointError, match=told):
        attnzoo.save(model, tmp_path / "a.safetensors", what="all")
    assert not list(tmp_path.iterdir())
    attnzoo.save(model, tmp_path / "a.safetensors")


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    model = wrapped()
    model.register_buffer("a\udc80", torch.zeros(1))
    with pytest.raises(CheckpointError, match="cannot write"):
        attnzoo.save(model, tmp_path / "a.safetensors", what="all")


def test_an_interrupt_while_a_file_is_read_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    attnzoo.save(wrapped(), path, what="all")
    interrupted, threads = 0, threading.active_count()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for step in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + step * 1e-5)
                attnzoo.load(path)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    assert threading.active_count() <= threads


def test_an_interrupt_while_a_save_clears_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    clear = shutil.rmtree

    def interrupted(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        clear(*args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            attnzoo.save(wrapped(), tmp_path / "file")
    finally:
        signal.signal(signal.SIGINT, former)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
