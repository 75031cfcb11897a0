"""A study's folder: what was asked for, and the runs that are there. All a report needs.

study.json              the study
data.json               the data set's classes, counts and some pictures
runs/<run>/             one finished run: run.json, metrics.csv, attention.safetensors,
                        predictions.npz, result.json
runs/.<run>.partial/    a run in progress, or one that was interrupted or failed
runs/.<run>.lock        claimed by the process that does the run
results.csv             one row a run
comparisons.csv         one row a comparison
contrasts.json          test pictures that set variants apart
tracked.json            the study's run in MLflow, where it logs there
report.html, report.md, figures/
.attnzoo.json           the names of what attnzoo wrote; nothing else is replaced or removed
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from attnzoo.errors import StudyError
from attnzoo.study.definition import Study
from attnzoo.study.runs.ours import STUDY, written
from attnzoo.study.runs.record import Record, damage, read_run
from attnzoo.study.runs.writing import remove_leftovers, write_atomically
from attnzoo.train import Config, ImageData, RunSpec

__all__ = [
    "DATA",
    "DataRecord",
    "damages",
    "described",
    "finished_runs",
    "read_data",
    "read_folder",
    "run_folder",
    "same_study",
    "write_data",
    "write_study",
]

DATA = "data.json"


class DataRecord(Config):
    """What a report tells of the data, without needing them.

    Attributes:
        classes: their names.
        train, test: how many images.
        chance: top-1 of always guessing the largest class; None in older studies.
        pictures: some test images.
    """

    class Picture(Config):
        """A test image: its class, size in pixels, PNG bytes in base64, and box if known."""

        label: str
        size: int
        png: str
        box: tuple[int, int, int, int] | None = None

        @property
        def pixels(self) -> np.ndarray:
            """`(S, S, 3)` uint8."""
            with Image.open(io.BytesIO(base64.b64decode(self.png))) as image:
                return np.asarray(image.convert("RGB"))

    classes: list[str]
    train: int
    test: int
    chance: float | None = None
    pictures: list[Picture]


def write_study(folder: Path, study: Study) -> None:
    """Leave the study in its folder."""
    remove_leftovers(folder, written(folder))
    write_atomically(folder / STUDY, study.model_dump_json(indent=2))


def same_study(folder: Path, study: Study) -> bool:
    """Whether the study in `folder` is this one."""
    try:
        return (folder / STUDY).read_text(encoding="utf-8") == study.model_dump_json(indent=2)
    except (OSError, ValueError):
        return False


def write_data(folder: Path, data: ImageData, pictures: int = 8) -> None:
    """Leave a description of the data in the study's folder."""
    write_atomically(folder / DATA, described(data, pictures).model_dump_json())


def described(data: ImageData, pictures: int = 8) -> DataRecord:
    """What there is to tell of the data, with some of their test images."""
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
    return DataRecord(
        classes=data.classes,
        train=len(data.train),
        test=len(data.test),
        chance=data.chance,
        pictures=shown,
    )


def read_data(folder: Path) -> DataRecord | None:
    """The description of the data, or None where the study has not begun.

    Raises:
        StudyError: the file is damaged.
    """
    path = folder / DATA
    if not os.path.lexists(path):
        return None
    try:
        found = DataRecord.model_validate_json(path.read_text(encoding="utf-8"))
        for picture in found.pictures:
            assert picture.pixels.size
    except Exception as error:  # image decoders raise whatever they come upon
        raise StudyError(
            f"{path} is damaged ({type(error).__name__}); `attnzoo ablate` writes it anew."
        ) from error
    return found


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
    except (FileNotFoundError, NotADirectoryError):
        raise StudyError(
            f"{str(folder)!r} holds no study ({STUDY} is missing). "
            f"Give the folder that `attnzoo ablate` wrote."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(
            f"{folder / STUDY} is damaged; `attnzoo ablate` writes it anew. {error}"
        ) from error
    return study, finished_runs(folder, study.runs)


def finished_runs(folder: Path, runs: Iterable[RunSpec]) -> list[Record]:
    """Those of `runs` that are finished, in their order."""
    records = (read_run(run_folder(folder, run), run) for run in runs)
    return [record for record in records if record is not None]


def damages(folder: Path, study: Study, records: Sequence[Record]) -> list[str]:
    """What cannot be read in a study's folder: runs that are left out, and parts of others."""
    said = []
    known = {record.folder: record for record in records}
    for run in study.runs:
        place = run_folder(folder, run)
        title = f"{run.backbone}, {run.variant.title}, seed {run.train.seed}"
        if place not in known:
            if why := damage(place, run):
                said.append(
                    f"{title}: left out, for its folder {place.name} is damaged ({why}). "
                    f"`attnzoo ablate` does the run again."
                )
        elif parts := known[place].damaged:
            said.append(f"{title}: without {' and '.join(parts)}, which cannot be read.")
    return said
