"""How long the runs of a study will take: from finished runs, from a timed step, or by MACs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import torch

from attnzoo.study.definition import Cell, Study
from attnzoo.study.runs.record import Record
from attnzoo.train import ImageData, RunSpec, Watch, build, fit, open_data

__all__ = ["Forecast", "forecast"]

SMALL = 4  # images of the first step that is timed: it ends soon, whatever the network
GROW = 4  # times as many in the next
TEST_SHARE = 1 / 3  # of a training step's time per image: no backward pass

How = Literal["finished", "timed", "scaled", "unknown"]


@dataclass(frozen=True)
class Forecast:
    """How long one run of a backbone with a variant takes.

    Attributes:
        seconds: of one run; None where nothing is known.
        how: `"finished"`: the mean of its finished runs. `"timed"`: from a training step on this
            machine. `"scaled"`: from another variant's of the same backbone, by their MACs, which
            says too little where a block is slow for other reasons. `"unknown"`.
    """

    seconds: float | None
    how: How


def forecast(
    study: Study,
    cells: Sequence[Cell],
    records: Iterable[Record],
    data: ImageData,
    budget: float = 10.0,
) -> list[Forecast]:
    """How long a run of each cell takes. Nothing is trained further than two steps.

    Args:
        study: the study.
        cells: from `check_study`.
        records: its finished runs.
        data: the study's, opened; for backbones of another image size it is opened again.
        budget: seconds after which no further step is timed. First each backbone has one timed,
            then the other variants.
    """
    known: dict[tuple[str, str], list[float]] = {}
    for record in records:
        key = record.result.backbone, record.result.variant
        known.setdefault(key, []).append(record.result.seconds)
    found: list[Forecast | None] = []
    for cell in cells:
        seconds = known.get((cell.backbone.name, cell.variant.title))
        found.append(Forecast(statistics.fmean(seconds), "finished") if seconds else None)
    began = time.monotonic()
    backbones = len({cell.backbone.name for cell in cells})
    for turn, index in enumerate(_order(cells)):
        left = (budget - (time.monotonic() - began)) / max(1, backbones - turn)
        if found[index] is None and left > 0:
            cell = cells[index]
            timed = _timed(study.run(cell.backbone, cell.variant, study.seeds[0]), data, left)
            found[index] = None if timed is None else Forecast(timed, "timed")
    return [one or _scaled(cell, cells, found) for cell, one in zip(cells, found, strict=True)]


def _order(cells: Sequence[Cell]) -> list[int]:
    """The first cell of each backbone, then the others."""
    first = {cell.backbone.name: index for index, cell in reversed(list(enumerate(cells)))}
    return sorted(range(len(cells)), key=lambda i: first[cells[i].backbone.name] != i)


def _scaled(cell: Cell, cells: Sequence[Cell], found: Sequence[Forecast | None]) -> Forecast:
    """By another of the same backbone, with training as long as its own."""
    for other, one in zip(cells, found, strict=True):
        same = other.backbone == cell.backbone and other.variant.train == cell.variant.train
        if same and one is not None and one.seconds is not None:
            return Forecast(one.seconds * cell.macs / other.macs, "scaled")
    return Forecast(None, "unknown")


class _EnoughError(Exception):
    """The steps that were to be timed are done."""


class _Stopwatch(Watch):
    """Takes the time of the second step, then ends the training."""

    def __init__(self) -> None:
        self.first = math.nan
        self.step_seconds = math.nan
        self.steps = 0

    def begin(self, name: str, steps: int) -> None:
        self.steps = steps

    def step(self, loss: float | None = None) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if not math.isnan(self.first):
            self.step_seconds = now - self.first
            raise _EnoughError
        self.first = now


def _timed(run: RunSpec, data: ImageData, budget: float) -> float | None:
    """Seconds that a run takes, from its second step; None where that does not work out.

    With a few images a step at first, then with more, as long as there is time for it. What a step
    takes whatever its images is told from what it takes for each by two sizes.
    """
    if data.shape != run.shape:
        data = open_data(run.prepared)
    recipe = run.train
    images = min(
        recipe.batch_size, recipe.accumulate * max(2, math.ceil(SMALL / recipe.accumulate))
    )
    ends = time.monotonic() + budget
    before = 0, 0.0
    try:
        while True:
            setup, seconds = _two_steps(run, data, images)
            each = max((seconds - before[1]) / (images - before[0]), 0.0)
            more = min(recipe.batch_size, GROW * images)
            if more == images or setup + 2 * seconds * more / images > ends - time.monotonic():
                break
            before, images = (images, seconds), more
    except Exception:  # what is wrong with a run, the run itself says best
        return None
    step = seconds + each * (recipe.batch_size - images)
    steps = len(data.train) // recipe.batch_size
    testing = len(data.test) * step / recipe.batch_size * TEST_SHARE
    return setup + recipe.epochs * (steps * step + testing)


def _two_steps(run: RunSpec, data: ImageData, images: int) -> tuple[float, float]:
    """Seconds until the first step is done, and from there until the second is."""
    recipe = run.train.model_copy(update={"batch_size": images})
    watch = _Stopwatch()
    began = time.perf_counter()
    with torch.random.fork_rng(), suppress(_EnoughError):
        start = build(run, len(data.classes))
        fit(start.model, data, recipe, watch=watch)
    return watch.first - began, watch.step_seconds
