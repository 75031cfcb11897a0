"""A finished run as its folder tells it, and what there is to say where the folder is damaged.

A run counts as finished if what it was and what it came to can be read and make sense. Of the rest,
its epochs and maps for example, what cannot be read is left out and named.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnzoo.checkpoint import NETWORK
from attnzoo.train import (
    ENVIRONMENT,
    MAPS,
    PREDICTIONS,
    RESULT,
    SPEC,
    RunResult,
    RunSpec,
    put_aside,
    read_maps,
    read_predictions,
)

__all__ = [
    "Record",
    "damage",
    "is_finished",
    "put_damaged_aside",
    "read_environment",
    "read_run",
]

METRICS = "metrics.csv"
READ = (SPEC, RESULT, ENVIRONMENT, METRICS, MAPS, PREDICTIONS)
FILES = (*READ, "log.txt", "checkpoint.pt", "failure.json")
FOLDERS = ("tensorboard",)
SHARES = ("top1", "top5", "balanced", "macro_f1", "calibration_error", "map", "f1")
LENGTHS = ("seconds", "train_seconds", "images_per_second")
COUNTS = ("parameters", "macs")
UNREADABLE = (OSError, ValueError, TypeError, KeyError, EOFError, RecursionError, csv.Error)


@dataclass(frozen=True)
class Record:
    """One finished run, as its folder tells it.

    Attributes:
        spec: what it was.
        result: what it came to.
        epochs: rows of `metrics.csv`; numbers, None where a cell is empty.
        folder: where it is.
        damaged: files of it that are there and cannot be read; what they told is left out.
    """

    spec: RunSpec
    result: RunResult
    epochs: list[dict[str, float | None]]
    folder: Path
    damaged: tuple[str, ...] = ()


def read_run(folder: Path, run: RunSpec) -> Record | None:
    """The finished run in `folder`, or None where it is not finished, another, or damaged."""
    found = _look(folder)
    return found if isinstance(found, Record) and run.is_that(found.spec) else None


def is_finished(folder: Path, run: RunSpec) -> bool:
    """Whether `folder` is that of the finished run, with what `run` keeps of its network."""
    kept = run.keep == "attention" or (folder / NETWORK).is_file()
    return kept and read_run(folder, run) is not None


def damage(folder: Path, run: RunSpec) -> str:
    """Why what is in a run's folder is not the finished run; empty where it is, or nothing is."""
    found = _look(folder)
    if found is None:
        return ""
    if isinstance(found, str):
        return found
    return "" if run.is_that(found.spec) else f"{SPEC} is that of another run, {found.spec.id}"


def put_damaged_aside(folder: Path, run: RunSpec) -> list[str]:
    """Rename what is in the way of a run that is to be done again; a line on each.

    That is a damaged folder of its, or an unfinished one in which nothing could be written.
    """
    said = []
    if why := damage(folder, run):
        said.append(f"{folder} is damaged ({why}); it is kept as {put_aside(folder).name}.")
    partial = folder.with_name(f".{folder.name}.partial")
    if why := _blocked(partial):
        said.append(f"{partial}: {why}; it is kept as {put_aside(partial).name}.")
    return said


def _blocked(partial: Path) -> str:
    """Why a run cannot go on in its unfinished folder, or nothing."""
    if not os.path.lexists(partial):
        return ""
    if not partial.is_dir():
        return "it is no folder"
    for entry in partial.iterdir():
        if entry.is_dir() != (entry.name in FOLDERS) and entry.name in (*FILES, *FOLDERS):
            return f"{entry.name} is {'a' if entry.is_dir() else 'no'} folder"
    return ""


def _look(folder: Path) -> Record | str | None:
    """The run, why it cannot be read, or None where there is nothing."""
    try:
        (folder / RESULT).stat()
    except FileNotFoundError:
        return f"{RESULT} is missing" if folder.is_dir() and any(folder.iterdir()) else None
    except OSError as error:
        return str(error)
    return _read_once(folder, tuple(_stamp(folder / name) for name in READ))


def _stamp(path: Path) -> tuple[int, ...]:
    """Different when a file was written anew; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size


@functools.lru_cache(maxsize=65536)
def _read_once(folder: Path, stamps: tuple[tuple[int, ...], ...]) -> Record | str:
    """A finished run stays as it is, and tables are written after each: read it once."""
    try:
        spec = RunSpec.model_validate_json(_text(folder / SPEC))
    except UNREADABLE as error:
        return f"{SPEC}: {_short(error)}"
    try:
        result = RunResult.model_validate_json(_text(folder / RESULT))
    except UNREADABLE as error:
        return f"{RESULT}: {_short(error)}"
    if fault := _fault(spec, result):
        return f"{RESULT}: {fault}"
    damaged = []
    epochs: list[dict[str, float | None]] = []
    if (folder / METRICS).exists():  # else it diverged in the first epoch
        try:
            epochs = _epochs(folder / METRICS)
        except UNREADABLE:
            damaged.append(METRICS)
    checks: dict[str, Callable[[Path], Any]] = {
        MAPS: read_maps,
        PREDICTIONS: read_predictions,
        ENVIRONMENT: read_environment,
    }
    for name, read in checks.items():
        if (folder / name).exists():
            try:
                _refuse_others(folder / name)
                read(folder / name)
            except Exception:  # zip files and arrays raise whatever they come upon
                damaged.append(name)
    return Record(spec, result, epochs, folder, tuple(damaged))


def read_environment(path: Path) -> list[dict[str, Any]]:
    """What a run noted of its surroundings each time that it was taken up.

    Raises:
        ValueError: the file is damaged.
    """
    noted = json.loads(_text(path))
    if not isinstance(noted, list) or not all(isinstance(one, dict) for one in noted):
        raise ValueError("it is no list of mappings")
    return noted


def _fault(spec: RunSpec, result: RunResult) -> str:
    """What cannot be true of a result, or nothing."""
    values = result.model_dump()
    said = (result.backbone, result.variant, result.seed)
    if said != (spec.backbone, spec.variant.title, spec.train.seed):
        return "it is that of another run"
    told = (result.top1, result.map, result.mae)
    if result.status == "finished" and all(value is None for value in told):
        return "it is finished and has no top1"
    for names, least, most in (
        (SHARES, 0, 1),
        (LENGTHS, 0, math.inf),
        (COUNTS, 1, math.inf),
        (("sites", "epochs", "activation_bytes"), 0, math.inf),
    ):
        for name in names:
            value = values[name]
            if value is not None and not least <= value <= most:
                return f"{name} is {value}"
    infinite = [name for name in LENGTHS if values[name] == math.inf]
    return f"{infinite[0]} is infinite" if infinite else ""


def _epochs(path: Path) -> list[dict[str, float | None]]:
    reader = csv.DictReader(_text(path).splitlines())
    rows = [{key: float(value) if value else None for key, value in row.items()} for row in reader]
    if any("epoch" not in row or "test_top1" not in row or None in row for row in rows):
        raise ValueError("columns are missing")
    return rows


def _text(path: Path) -> str:
    _refuse_others(path)
    return path.read_text(encoding="utf-8")


def _refuse_others(path: Path) -> None:
    if not path.is_file():  # a pipe would be waited for
        raise OSError("it is no file" if path.exists() else "it is missing")


def _short(error: BaseException) -> str:
    """The first two lines of a message, as one: the second is pydantic's reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join(lines[:3])[:200] or type(error).__name__
