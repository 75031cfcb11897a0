"""Run by torchrun with two processes: trainings whose outcome `test_devices.py` looks at.

Usage: two_processes.py FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import attnzoo
from attnzoo.cli import main
from attnzoo.train import FitResult, Interrupted, TrainRecipe, Watch, fit, open_data

DATA = {"name": "cluttered-digits", "size": 16, "train": 48, "test": 33, "clutter": 1}
RECIPE = {"epochs": 2, "batch_size": 16, "device": "cpu", "clip_norm": 1.0}
STAGES = {"freeze": "4", "unfreeze": {2: "all"}}
COMMAND = [
    *("train", "two_processes:make_net", "--policy", "pre-pool", "--block", "se"),
    *("--option", "reduction=4", "--size", "16", "--data-option", "train=48"),
    *("--data-option", "test=33", "--data-option", "clutter=1", "--epochs", "2"),
    *("--batch-size", "16", "--device", "cpu", "--json"),
]


class Explodes(nn.Module):
    """Overflows in one of its training steps, in the second process only."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        self.count += 1
        breaks = self.count == self.at and os.environ.get("RANK", "1") == "1"
        return x + float("inf") if breaks else x


def make_net(num_classes: int = 10, explodes_at: int = 0) -> nn.Module:
    """Without BatchNorm, whose statistics would be those of half a batch."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        *([Explodes(explodes_at)] if explodes_at else []),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


def trained(folder: Path | None = None, watch: Watch | None = None, **changes: Any) -> Any:
    """What came of a training: the rows of its epochs, and its weights."""
    torch.manual_seed(0)
    explodes_at = changes.pop("explodes_at", 0)
    model = attnzoo.wrap(make_net(explodes_at=explodes_at), "pre-pool", "se", example=(3, 16, 16))
    how = TrainRecipe.model_validate({**RECIPE, **changes})
    result = fit(model, open_data(DATA), how, folder=folder, watch=watch)
    return outcome(result, model)


def outcome(result: FitResult, model: nn.Module) -> Any:
    weights = {key: tensor.flatten().tolist() for key, tensor in model.state_dict().items()}
    said = result.predictions
    answers = [] if said is None else [said.labels.tolist(), said.log_probability.tolist()]
    told = {"rows": result.epochs, "weights": weights, "message": result.message}
    return {**told, "answers": answers}


class Ends(Watch):
    """Asks all of this process's group to stop; only the first process has a watch."""

    def step(self, loss: float | None = None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def interrupted_and_taken_up(folder: Path, **changes: Any) -> Any:
    try:
        trained(folder, Ends(), **changes)
    except Interrupted as error:
        return {**trained(folder, **changes), "message": str(error)}
    raise AssertionError("nothing was interrupted")


def run(folder: Path) -> None:
    first = os.environ["RANK"] == "0"
    out = {
        "ddp": trained(),
        "accumulated": trained(accumulate=2),
        "fsdp": trained(strategy="fsdp"),
        "unfrozen": trained(**STAGES),
        "exploded": trained(explodes_at=5),
        "ddp, interrupted": interrupted_and_taken_up(folder / "ddp"),
        "fsdp, interrupted": interrupted_and_taken_up(folder / "fsdp", strategy="fsdp"),
    }
    out["exit code"] = main([*COMMAND, "--out", str(folder / "runs")])
    if first:
        (folder / "out.json").write_text(json.dumps(out))


if __name__ == "__main__":
    sys.modules["two_processes"] = sys.modules["__main__"]
    run(Path(sys.argv[1]))
