"""What a run keeps of where it took place, and of what happened."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from training import spec

from attnzoo.train import Watch, train
from attnzoo.train.environment import environment, git_state
from attnzoo.train.log import run_log


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / "study.yaml").write_text("a")
    git(tmp_path, "add", "study.yaml")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "new").write_text("results are no change of the code")
    assert git_state(tmp_path / "runs") == {"commit": commit, "dirty": False}
    (tmp_path / "study.yaml").write_text("b")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_without_git_there_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) is None


def test_the_environment_names_no_machine() -> None:
    told = environment()
    assert told["packages"]["torch"] == version("torch")
    assert told["cpu"]["model"]
    assert told["cpu"]["threads"] == torch.get_num_threads()
    assert socket.gethostname() not in json.dumps(told)
    assert json.loads(json.dumps(told)) == told


def test_the_log_has_epochs_warnings_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda *_: None)
    seen: list[str] = []

    class Seeing(Watch):
        def epoch(self, row: dict[str, object]) -> None:
            seen.append("epoch")

        def say(self, line: str) -> None:
            seen.append(line)

    before = warnings.showwarning
    with run_log(tmp_path / "log.txt", Seeing()) as watch:
        watch.begin("net, plain", 10)
        watch.resume(5)
        watch.step(0.5)
        watch.say("taken up again")
        watch.epoch({"epoch": 1, "test_top1": 0.25, "gamma": ""})
        watch.end("top-1 25%")
        logging.getLogger("some.library").warning("from a library")
        warnings.showwarning(UserWarning("careful"), UserWarning, "file.py", 3)
    assert warnings.showwarning is before
    assert seen == ["taken up again", "epoch"]
    text = (tmp_path / "log.txt").read_text()
    for part in (
        "INFO net, plain: 10 steps",
        "INFO taken up again",
        "INFO epoch 1 test_top1 0.25\n",
        "INFO top-1 25%",
        "WARNING from a library",
        "WARNING file.py:3: UserWarning: careful",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("kind", "told"), [(ValueError, "Traceback"), (KeyboardInterrupt, "inter")]
)
def test_the_log_says_how_it_ended(tmp_path: Path, kind: type[BaseException], told: str) -> None:
    with pytest.raises(kind), run_log(tmp_path / "log.txt", Watch()):
        raise kind
    assert told in (tmp_path / "log.txt").read_text()
    assert not logging.getLogger("attnzoo.run").handlers


def test_a_run_keeps_both(tmp_path: Path) -> None:
    train(spec(), tmp_path / "run", repository=tmp_path)
    (here,) = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert here["git"] is None
    assert "epoch 1" in (tmp_path / "run" / "log.txt").read_text()
