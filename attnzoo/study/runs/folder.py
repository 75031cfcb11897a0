"""A study's folder: what was asked for, and the runs that are there. All a report needs.

study.json              the study
data.json               the data set's classes, counts and some pictures
runs/<run>/             one finished run: run.json, metrics.csv, attention.safetensors,
                        result.json
runs/.<run>.partial/    a run in progress, or one that was interrupted or failed
runs/.<run>.lock        claimed by the process that does the run
results.csv             one row a run
comparisons.csv         one row a comparison
report.html, report.md
"""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import os
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from attnzoo.errors import StudyError
from attnzoo.study.definition import Study
from attnzoo.train import RESULT, Config, ImageData, RunResult, RunSpec

__all__ = [
    "DataRecord",
    "Record",
    "finished_runs",
    "is_finished",
    "read_data",
    "read_folder",
    "read_run",
    "run_folder",
    "same_study",
    "write_atomically",
    "write_data",
    "write_study",
]

STUDY, DATA = "study.json", "data.json"

STALE = 600  # seconds: nobody writes one file for so long


@dataclass(frozen=True)
class Record:
    """One finished run, as its folder tells it.

    Attributes:
        spec: what it was.
        result: what it came to.
        epochs: rows of `metrics.csv`; numbers, None where a cell is empty.
        folder: where it is.
    """

    spec: RunSpec
    result: RunResult
    epochs: list[dict[str, float | None]]
    folder: Path


class DataRecord(Config):
    """What a report tells of the data, without needing them.

    Attributes:
        classes: their names.
        train, test: how many images.
        pictures: some test images.
    """

    class Picture(Config):
        """A test image: its class, size in pixels, PNG bytes in base64, and box if known."""

        label: str
        size: int
        png: str
        box: tuple[int, int, int, int] | None = None

    classes: list[str]
    train: int
    test: int
    pictures: list[Picture]


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, never half.

    Several processes may write the same file at once: the last one's text stays.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_study(folder: Path, study: Study) -> None:
    """Leave the study in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial"):  # by a process that was killed while it wrote
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
    write_atomically(folder / STUDY, study.model_dump_json(indent=2))


def same_study(folder: Path, study: Study) -> bool:
    """Whether the study in `folder` is this one."""
    try:
        return (folder / STUDY).read_text(encoding="utf-8") == study.model_dump_json(indent=2)
    except FileNotFoundError:
        return False


def write_data(folder: Path, data: ImageData, pictures: int = 8) -> None:
    """Leave a description of the data in the study's folder."""
    shown = []
    for index in range(min(pictures, len(data.test))):
        sample = data.sample(index)
        png = io.BytesIO()
        Image.fromarray(sample.picture).save(png, format="PNG")
        shown.append(
            DataRecord.Picture(
                label=sample.label,
                size=data.size,
                png=base64.b64encode(png.getvalue()).decode(),
                box=sample.box,
            )
        )
    record = DataRecord(
        classes=data.classes, train=len(data.train), test=len(data.test), pictures=shown
    )
    write_atomically(folder / DATA, record.model_dump_json())


def read_data(folder: Path) -> DataRecord | None:
    """The description of the data, or None where the study has not begun."""
    if not (folder / DATA).is_file():
        return None
    return DataRecord.model_validate_json((folder / DATA).read_text(encoding="utf-8"))


def run_folder(folder: Path, run: RunSpec) -> Path:
    """Where a run of the study in `folder` belongs."""
    return folder / "runs" / run.id


def read_folder(folder: str | Path) -> tuple[Study, list[Record]]:
    """The study in a folder and its finished runs, in the study's order.

    Raises:
        StudyError: no study is there.
    """
    folder = Path(folder)
    try:
        study = Study.model_validate(json.loads((folder / STUDY).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StudyError(
            f"{str(folder)!r} holds no study ({STUDY} is missing). "
            f"Give the folder that `attnzoo ablate` wrote."
        ) from None
    except ValueError as error:
        raise StudyError(f"{folder / STUDY} is damaged: {error}") from error
    return study, finished_runs(folder, study.runs)


def finished_runs(folder: Path, runs: Iterable[RunSpec]) -> list[Record]:
    """Those of `runs` that are finished, in their order."""
    records = (read_run(run_folder(folder, run)) for run in runs)
    return [record for record in records if record is not None]


def is_finished(folder: Path) -> bool:
    """Whether `folder` is that of a finished run."""
    return (folder / RESULT).is_file()


def read_run(folder: Path) -> Record | None:
    """The finished run in `folder`, or None."""
    try:
        stamp = (folder / RESULT).stat()
    except FileNotFoundError:
        return None
    return _read_once(folder, (stamp.st_mtime_ns, stamp.st_ino))


@functools.lru_cache(maxsize=4096)
def _read_once(folder: Path, stamp: tuple[int, int]) -> Record:
    """A finished run stays as it is, and tables are written after each: read it once."""
    spec = RunSpec.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
    result = RunResult.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
    return Record(spec, result, _epochs(folder / "metrics.csv"), folder)


def _epochs(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():  # diverged in the first epoch
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(value) if value else None for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
