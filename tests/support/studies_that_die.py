"""Studies whose processes are killed or doubled, in one program so that torch is imported once.

    python studies_that_die.py killed FOLDER KILLS
    python studies_that_die.py shared FOLDER

It never computes itself: it forks, and what it forks does studies.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attnzoo.study import run_study
from attnzoo.train import Watch

STUDY: dict[str, Any] = {
    "name": "mortal",
    "data": {"name": "cluttered-digits", "size": 16, "train": 64, "test": 32, "clutter": 1},
    "train": {"epochs": 2, "batch_size": 8, "device": "cpu"},
    "seeds": [0, 1, 2, 3, 4, 5],
    "backbones": ["training:tiny_net"],
    "variants": [{"product": {"policy": "pre-pool", "block": ["se", "eca", "cbam"]}}],
    "controls": False,
}
STEPS = 384  # of all runs together
LOADED_LATE = (
    *("lightning_fabric", "sklearn.datasets", "sklearn.model_selection", "scipy.stats"),
    *("lightning_fabric.loggers", "tensorboardX", "matplotlib.figure", "jinja2", "torch._dynamo"),
)


class Telling(Watch):
    """Writes a line for each step, and for each run that begins."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def begin(self, name: str, steps: int) -> None:
        os.write(self.pipe, f"{name}\n".encode())

    def step(self, loss: float | None = None) -> None:
        os.write(self.pipe, b"\n")


def fork(folder: Path, study: dict[str, Any] = STUDY) -> tuple[int, int]:
    """A process that does the study in `folder`; its number, and what it tells."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    code = 1
    try:
        outcome = run_study(study, folder, watch=Telling(writing))
        code = len(outcome.failures)
    finally:
        os._exit(code)


def whole(folder: Path) -> list[str]:
    """Let a process end by itself; the runs that it began."""
    child, reading = fork(folder)
    told = _read_all(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return told


def killed(folder: Path, kills: int) -> dict[str, Any]:
    """The study left alone, and the study killed so often, after random numbers of steps."""
    whole(folder / "alone")
    draw = random.Random(0)
    lives, died = [], 0
    while died < kills:
        child, reading = fork(folder / "killed")
        steps = draw.randint(1, 2 * STEPS // (kills + 2))
        for _ in range(steps):
            while (letter := os.read(reading, 1)) not in (b"\n", b""):
                pass
            if not letter:
                break
        time.sleep(draw.uniform(0, 0.02))  # not always just after a step
        os.kill(child, signal.SIGKILL)
        died += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        os.close(reading)
        lives.append(steps)
    return {"lives": lives, "last": len(whole(folder / "killed"))}


def shared(folder: Path) -> list[list[str]]:
    """Two processes on one folder at once; the runs that each began."""
    study = {**STUDY, "seeds": [0, 1]}
    both = [fork(folder, study), fork(folder, study)]
    told = [_read_all(reading) for _, reading in both]
    for child, _ in both:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return told


def _read_all(reading: int) -> list[str]:
    with os.fdopen(reading) as pipe:
        return [line for line in pipe.read().splitlines() if line]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for module in LOADED_LATE:  # once, not once a life
        importlib.import_module(module)
    what, out, *numbers = sys.argv[1:]
    tasks: dict[str, Callable[..., Any]] = {"killed": killed, "shared": shared}
    print(json.dumps(tasks[what](Path(out), *map(int, numbers))))
