"""What a study adds to its runs, and what is left of one that is killed again and again.

    make bench-study

Overhead per run: from the moment a run is given to somebody until its first step is done, and the
driver's own time between runs. Runs are as short as they can be, a network of three layers on
images of 16 × 16, so that next to nothing else is measured. Then 24 runs are killed with SIGKILL,
driver and workers, at ten random moments, and compared with the same left alone.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from attnzoo.study import run_study
from attnzoo.train import Watch

MODULE = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
"""
STUDY: dict[str, Any] = {
    "name": "bench",
    "data": {"name": "cluttered-digits", "size": 16, "train": 64, "test": 32, "clutter": 1},
    "train": {"epochs": 1, "batch_size": 32, "device": "cpu"},
    "seeds": [0, 1, 2, 3, 4, 5],
    "backbones": ["bench_study_net:net"],
    "variants": [{"product": {"policy": "stage-end", "block": ["se", "eca", "cbam"]}}],
    "controls": False,
}
REAL = ["torchvision/resnet18", "timm/efficientnet_b0"]
LONG = {**STUDY, "train": {"epochs": 15, "batch_size": 8, "device": "cpu"}}
KILLS = 10


class Clock(Watch):
    """When each run began to train, had its first step done, and ended."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.ended: list[float] = []

    def step(self, loss: float | None = None) -> None:
        if len(self.first) == len(self.ended):
            self.first.append(time.perf_counter())

    def end(self, line: str) -> None:
        self.ended.append(time.perf_counter())


def in_process(folder: Path) -> None:
    """From the end of a run to the first step of the next, in this process."""
    clock = Clock()
    began = time.perf_counter()
    outcome = run_study(STUDY, folder / "one", watch=clock)
    total = time.perf_counter() - began
    # from the end of training: writing the run and the table, then building the next
    gaps = [first - end for end, first in zip(clock.ended, clock.first[1:], strict=False)]
    seconds = [record.result.train_seconds for record in outcome.records]
    show("in-process: end of a run to first step of the next", gaps)
    clock = Clock()
    real = {**STUDY, "name": "real", "seeds": [0, 1, 2], "backbones": REAL}
    run_study(real, folder / "real", watch=clock)
    gaps = [first - end for end, first in zip(clock.ended, clock.first[1:], strict=False)]
    show("in-process, resnet18 and efficientnet_b0, a step included", gaps)
    own = (total - sum(record.result.seconds for record in outcome.records)) / len(seconds)
    print(f"{'in-process: whole study less its runs, per run':56}{own:8.3f} s")


def side_by_side(folder: Path, name: str, **options: Any) -> None:
    """The same with an engine; its start is told apart."""
    began = time.perf_counter()
    clock = Clock()
    outcome = run_study(STUDY, folder / name, watch=clock, workers=1, **options)
    total = time.perf_counter() - began
    start = clock.ended[0] - began
    rest = (clock.ended[-1] - clock.ended[0]) / (len(clock.ended) - 1)
    trained = [record.result.train_seconds for record in outcome.records]
    print(f"{name + ': until the first run is over':56}{start:8.3f} s")
    print(f"{name + ': each further run, training included':56}{rest:8.3f} s")
    print(f"{name + ': of that in training steps':56}{statistics.fmean(trained):8.3f} s")
    print(f"{name + ': the study':56}{total:8.3f} s, {len(outcome.records)} runs")


def show(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    print(
        f"{what:56}{statistics.median(ordered):8.3f} s median, {ordered[-1]:.3f} s at most, "
        f"{len(ordered)} times"
    )


def killed(folder: Path) -> None:
    """`attnzoo ablate --workers 2`, killed ten times, against one process left alone."""
    file = folder / "long.yaml"
    file.write_text(yaml.safe_dump(LONG))
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])

    def start(out: str, *flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "attnzoo", "ablate", str(file), "--out", str(folder / out)]
        return subprocess.Popen(
            [*command, "--threads", "1", *flags],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    began = time.perf_counter()
    alone = start("alone")
    _, err = alone.communicate()
    assert alone.returncode == 0, err.decode()
    whole = time.perf_counter() - began
    draw = random.Random(0)
    moments, kept = [], []
    while len(moments) < KILLS:
        driver = start("killed", "--workers", "2")
        runs = folder / "killed" / "runs"
        before = set(runs.glob(".*.partial/checkpoint.pt"))
        stamps = {file: file.stat().st_mtime_ns for file in before}
        # from the first checkpoint of this life on: not while modules are loaded
        while driver.poll() is None and not any(
            stamps.get(file) != mtime(file) for file in runs.glob(".*.partial/checkpoint.pt")
        ):
            time.sleep(0.01)
        moment = draw.uniform(0, whole / (2 * KILLS))
        time.sleep(moment)
        if driver.poll() is not None:
            print(f"    the study was over after {len(moments)} kills")
            break
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
        moments.append(moment)
        kept.append(len(list(runs.glob("[!.]*"))))
        print(f"    killed {moment:.2f} s after a checkpoint; {kept[-1]} runs finished", flush=True)
    last = start("killed", "--workers", "2")
    _, err = last.communicate()
    assert last.returncode == 0, err.decode()
    one, other = numbers(folder / "alone"), numbers(folder / "killed")
    with (folder / "killed" / "results.csv").open(newline="") as table:
        rows = [row["run"] for row in csv.DictReader(table)]
    print(f"killed {len(moments)} times")
    print(f"{len(other)} results, {len(rows)} rows in results.csv, {len(set(rows))} different")
    print(f"equal to those of the study left alone: {one == other}")
    assert one == other
    assert sorted(rows) == sorted(one)


def mtime(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def numbers(folder: Path) -> dict[str, Any]:
    """Run → metrics and result without times; hidden folders count, as they must not be there."""
    found = {}
    for run in (folder / "runs").iterdir():
        with (run / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        result = json.loads((run / "result.json").read_text())
        found[run.name] = (
            [{key: value for key, value in row.items() if key != "seconds"} for row in rows],
            {key: value for key, value in result.items() if "second" not in key},
        )
    return found


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread a run"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench_study_net.py").write_text(MODULE)
        sys.path.append(str(folder))
        run_study({**STUDY, "seeds": [9]}, folder / "warm", watch=Watch())  # modules are loaded
        in_process(folder)
        side_by_side(folder, "a worker", threads=1)
        side_by_side(folder, "Ray", engine="ray", threads=1)
        killed(folder)


if __name__ == "__main__":
    main()
