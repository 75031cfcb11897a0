"""`--workers`: processes of their own, what they come to, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import STUDY, numbers
from torch import nn
from training import tiny_net

from attnzoo.study import run_study
from attnzoo.study.runs.processes import shares_of_gpus
from attnzoo.train import Watch

HERE = "test_processes"


class Fatal(nn.Module):
    """Trains fine with `ATTNZOO_TEST_MERCY`; without it raises, or kills its process."""

    def __init__(self, num_classes: int, number: int) -> None:
        super().__init__()
        self.net = tiny_net(num_classes)
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        real = self.training and x.device.type != "meta"
        if real and "ATTNZOO_TEST_MERCY" not in os.environ:
            if self.number:
                os.kill(os.getpid(), self.number)
            raise ArithmeticError("no\nmercy")
        return self.net(x)


def raising(num_classes: int) -> nn.Module:
    return Fatal(num_classes, 0)


def dying(num_classes: int) -> nn.Module:
    return Fatal(num_classes, signal.SIGSEGV)


@pytest.fixture
def study() -> dict[str, Any]:
    return {**STUDY, "name": "workers"}


def test_workers_do_what_one_process_does(
    tmp_path: Path, study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(study, tmp_path / "one", threads=1, watch=Watch())
    told: list[str] = []

    class Seeing(Watch):
        def begin(self, name: str, steps: int) -> None:
            told.append(f"begin {name}")
            assert steps == 4

        def step(self, loss: float | None = None) -> None:
            told.append("step")

        def end(self, line: str) -> None:
            told.append("end")

    bad = [f"{HERE}:raising", f"{HERE}:dying"]
    several = {**study, "backbones": [*study["backbones"], *bad], "seeds": [0]}
    several["exclude"] = [{"backbone": bad}]  # but plain
    outcome = run_study(several, tmp_path / "two", workers=2, threads=1, watch=Seeing())
    assert multiprocessing.active_children() == []
    assert outcome.repeated == len(outcome.records) == 2
    assert told.count("end") == 2
    assert told.count("step") == 8
    alone, together = numbers(tmp_path / "one"), tmp_path / "two" / "runs"
    for run in outcome.records:
        assert numbers_of(together.parent, run.folder.name) == alone[run.folder.name]

    failures = {failure.backbone: failure for failure in outcome.failures}
    assert len(outcome.failures) == 2
    assert failures[f"{HERE}:raising"].message == "ArithmeticError: no"
    assert "Traceback" in Path(failures[f"{HERE}:raising"].log).read_text()
    death = failures[f"{HERE}:dying"]
    assert death.message == "its process was ended by SIGSEGV, 2 times"
    assert "Segmentation fault" in Path(death.log).read_text()

    monkeypatch.setenv("ATTNZOO_TEST_MERCY", "1")
    again = run_study(several, tmp_path / "two", watch=Watch())
    assert (again.repeated, len(again.records), again.failures) == (2, 4, [])
    assert not list(together.glob(".*"))


def numbers_of(folder: Path, run: str) -> Any:
    hidden = [path for path in (folder / "runs").iterdir() if path.name.startswith(".")]
    for path in hidden:  # of those that failed: not results
        path.rename(folder / path.name)
    found = numbers(folder)[run]
    for path in hidden:
        (folder / path.name).rename(path)
    return found


def test_an_interrupt_ends_the_workers(tmp_path: Path, study: dict[str, Any]) -> None:
    class Impatient(Watch):
        def epoch(self, row: dict[str, Any]) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    longer = {**study, "train": {**study["train"], "epochs": 300}, "seeds": [0]}
    with pytest.raises(KeyboardInterrupt):
        run_study(longer, tmp_path, workers=1, threads=1, watch=Impatient())
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGTERM) is before
    (kept,) = (tmp_path / "runs").glob(".*.partial")
    assert (kept / "checkpoint.pt").exists()
    assert "interrupted" in (kept / "log.txt").read_text()


@pytest.mark.parametrize(
    ("visible", "count", "workers", "shares"),
    [
        (None, 0, 2, []),
        (None, 2, 3, ["0", "1", "0"]),
        ("4,GPU-abc", 2, 2, ["4", "GPU-abc"]),
        ("", 0, 2, []),
    ],
)
def test_gpus_are_dealt_out(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, workers: int, shares: Any
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert shares_of_gpus(workers) == shares
