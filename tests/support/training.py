"""A small network and its data, and watches that end a training, for the tests of training."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import attnzoo
from attnzoo.train import TrainRecipe, Watch, fit, open_data

__all__ = [
    "DATA",
    "BreakdownError",
    "Ends",
    "make_folder",
    "network",
    "recipe",
    "seen_by",
    "spec",
    "tiny_net",
]

DATA = {"name": "cluttered-digits", "size": 16, "train": 48, "test": 32, "clutter": 1}


class Leaving(nn.Sequential):
    """Ends the program as soon as it trains on numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not x.is_meta:
            sys.exit(7)
        return super().forward(x)


class Choosing(nn.Sequential):
    """Takes the images whose scores are large, if there are any: values decide how many."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *rest = self
        y = first(x)
        kept = y[y.flatten(1).amax(1) > -1e9]
        for layer in rest:
            kept = layer(kept)
        return kept


def choosing_net(num_classes: int = 10) -> nn.Module:
    """A backbone whose forward pass can be followed up to its pool alone."""
    first, rest = tiny_net(num_classes)[:4], tiny_net(num_classes)[4:]
    return Choosing(first, *rest)


def leaving_net(num_classes: int = 10) -> nn.Module:
    """A backbone that calls `sys.exit` in its forward pass."""
    return Leaving(*tiny_net(num_classes))


def tiny_net(num_classes: int = 10, width: int = 8, dropout: float = 0.0) -> nn.Module:
    """A backbone that trains in milliseconds, with a pool for attention to go before."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
        nn.Dropout(dropout),
    )


def network() -> nn.Module:
    """`tiny_net` with dropout and attention, each time the same."""
    torch.manual_seed(0)
    return attnzoo.wrap(tiny_net(dropout=0.3), "pre-pool", "se", example=(3, 16, 16))


def recipe(**changes: object) -> TrainRecipe:
    """Two epochs of small batches on the CPU, with changes."""
    return TrainRecipe(**{"epochs": 2, "batch_size": 16, "device": "cpu", **changes})


def spec(**changes: Any) -> dict[str, Any]:
    """A run of one epoch, as a file would have it, with changes."""
    return {
        "backbone": "training:tiny_net",
        "data": DATA,
        "train": {"epochs": 1, "batch_size": 16, "device": "cpu"},
        **changes,
    }


def make_folder(
    root: Path, classes: dict[str, int], splits: tuple[str, ...] = ("train", "test")
) -> Path:
    """Images of noise under `root/SPLIT/CLASS`, as many as `classes` says; gives back `root`."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name, count in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def seen_by(model: nn.Module, **changes: object) -> list[torch.Tensor]:
    """The training batches that reach a model."""
    batches: list[torch.Tensor] = []
    model.register_forward_pre_hook(
        lambda module, args: batches.append(args[0].clone()) if module.training else None
    )
    fit(model, open_data(DATA), recipe(**changes))
    return batches


class BreakdownError(Exception):
    """Something in the machine."""


class Ends(Watch):
    """Ends a training at one of its steps, or after one of its epochs."""

    def __init__(self, step: int = 0, epoch: int = 0, how: object = signal.SIGTERM) -> None:
        self.at = {"step": step, "epoch": epoch}
        self.done = {"step": 0, "epoch": 0}
        self.how = how
        self.said: list[str] = []

    def resume(self, steps: int) -> None:
        self.done["step"] = steps

    def say(self, line: str) -> None:
        self.said.append(line)

    def step(self, loss: float | None = None) -> None:
        self._count("step")

    def epoch(self, row: dict[str, Any]) -> None:
        self._count("epoch")

    def _count(self, what: str) -> None:
        self.done[what] += 1
        if self.done[what] == self.at[what]:
            if self.how is BreakdownError:
                raise BreakdownError
            os.kill(os.getpid(), self.how)
