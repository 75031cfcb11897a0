"""A small study, and what the tests of studies look at."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from attnzoo.study import Study, parse_study
from attnzoo.study.numbers import measure
from attnzoo.train import RunResult, RunSpec, Watch

STUDY: dict[str, Any] = {
    "name": "tiny <study>",
    "question": "Does attention help a tiny net?",
    "data": {"name": "cluttered-digits", "size": 16, "train": 32, "test": 16, "clutter": 1},
    "train": {"epochs": 2, "batch_size": 16, "device": "cpu"},
    "seeds": [0, 1],
    "backbones": ["training:tiny_net"],
    "variants": ["plain", {"policy": "pre-pool", "block": "se"}],
    "controls": False,
    "measure": False,
}
MEASURED: dict[str, Any] = {**STUDY, "measure": True}


@contextmanager
def measured_briefly() -> Iterator[None]:
    """Latency and memory are measured in as few passes as there must be."""
    with mock.patch.object(measure, "SECONDS", 0.0):
        yield


class Log(Watch):
    """The names of the runs that begin."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.names: list[str] = []
        self.stop_at = stop_at

    def begin(self, name: str, steps: int) -> None:
        self.names.append(name)

    def epoch(self, row: dict[str, Any]) -> None:
        if len(self.names) == self.stop_at:
            raise KeyboardInterrupt


class Told(Log):
    """These, and the lines that are said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def result(variant: str, seed: int, top1: float | None, **changes: object) -> RunResult:
    values = {
        "backbone": "net",
        "variant": variant,
        "policy": "" if variant == "plain" else "auto",
        "block": "" if variant == "plain" else "se",
        "start": "identity",
        "seed": seed,
        "status": "finished" if top1 is not None else "diverged",
        "message": "",
        "top1": top1,
        "test_loss": 1.0,
        "sites": 0 if variant == "plain" else 3,
        "places": "" if variant == "plain" else "pre-pool",
        "parameters": 1000 if variant == "plain" else 1100,
        "macs": 5000 if variant == "plain" else 5050,
        "activation_bytes": 1,
        "gamma": None if variant == "plain" else 0.25,
        "epochs": 1,
        "seconds": 2.0 + seed,
        "train_seconds": 1.0,
        "images_per_second": 1.0,
        "backbone_hash": "",
        "device": "cpu",
        "versions": {},
    }
    return RunResult(**{**values, **changes})


def numbers(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Run → its metrics and its result, without times."""
    found = {}
    for run in (folder / "runs").iterdir():
        with (run / "metrics.csv").open(newline="") as file:
            rows = [
                {k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)
            ]
        result = json.loads((run / "result.json").read_text())
        found[run.name] = rows, {k: v for k, v in result.items() if "second" not in k}
    return found


def made_up(
    folder: Path,
    content: Mapping[str, Any],
    top1: Callable[[RunSpec], float | None],
    only: Callable[[RunSpec], bool] = lambda run: True,
) -> Study:
    """A study's folder as its runs would have left it, with accuracies of one's choice."""
    study = parse_study(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(study.model_dump_json())
    for run in filter(only, study.runs):
        place = folder / "runs" / run.id
        place.mkdir(parents=True)
        (place / "run.json").write_text(run.model_dump_json())
        plain = run.variant.policy is None
        changes = {} if plain else {"policy": "auto", "block": run.variant.block, "sites": 3}
        if not plain:
            changes |= {"parameters": 1100, "macs": 5050, "gamma": 0.25, "places": "pre-pool"}
        told = result(
            "plain", run.train.seed, top1(run), backbone=run.backbone, **changes
        ).model_copy(update={"variant": run.variant.title})
        (place / "result.json").write_text(told.model_dump_json())
    return study
