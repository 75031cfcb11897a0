"""Pictures with several labels, or with a number, by a table; see `tasks`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnzoo.errors import DataError
from attnzoo.train.checking import check_files
from attnzoo.train.data import ImageData, Sample
from attnzoo.train.describing import TableData
from attnzoo.train.folder import FolderPictures
from attnzoo.train.keys import Key, drawing
from attnzoo.train.redrawing import drawn_test
from attnzoo.train.table import check_pictures, draw_share, read_rows, splits_of

__all__ = ["TargetPictures", "open_targets"]

BETWEEN = ";"  # labels in a cell


class TargetPictures(FolderPictures):
    """One split of pictures that each have a row of numbers.

    Args:
        files: paths.
        targets: `(N, K)` float32.
        options: how pictures are prepared.
        training: whether to draw crops and the like.
    """

    def __init__(
        self, files: Sequence[str], targets: NDArray, options: TableData, *, training: bool = False
    ) -> None:
        super().__init__([(file, 0) for file in files], options, training=training)
        self.targets = targets

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:  # ty: ignore[incompatible-method-override]
        picture, _ = self.read(key[2])
        with drawing(key):
            return self.transform(picture), torch.from_numpy(self.targets[key[2]])


def open_targets(spec: TableData) -> ImageData:
    """The data of a table whose `label` is several labels, with `;` between them, or a number.

    Raises:
        DataError: the table cannot be read, a number is none, or a split is empty.
    """
    owner, path, columns, rows = read_rows(spec.root, empty=spec.task == "multilabel")
    names, targets = _targets(owner, [row["label"] for row in rows], spec)
    check_pictures(owner, path, rows)
    files = [str(path.parent / row["path"]) for row in rows]
    alike = [0] * len(rows)
    groups = [row["group"] for row in rows] if "group" in columns else None
    if spec.split is not None:
        if "split" in columns:
            raise DataError(f"{owner} has a column split; it does not go with split: by seed.")
        tested = set(drawn_test(owner, alike, spec, groups))
        splits = ["test" if place in tested else "train" for place in range(len(rows))]
    else:
        splits = splits_of(owner, rows, columns, alike, spec.test_share, spec.seed)
    places = {
        name: [place for place, split in enumerate(splits) if split == name]
        for name in ("train", "validation", "test")
    }
    if spec.validation is not None:
        train = places["train"]
        aside = set(draw_share(owner, [0] * len(train), spec.validation, spec.seed))
        places["validation"] = [place for i, place in enumerate(train) if i in aside]
        places["train"] = [place for i, place in enumerate(train) if i not in aside]
    for name, limit in (("train", spec.train), ("test", spec.test)):
        if not places[name]:
            raise DataError(f"{owner} has no picture to {name} on.")
        if limit is not None and limit < len(places[name]):
            order = np.random.default_rng(spec.seed).permutation(places[name])
            places[name] = sorted(order[:limit].tolist())
    check_files(owner, files, spec.check)

    def pictures(chosen: Sequence[int], *, training: bool = False) -> TargetPictures:
        return TargetPictures(
            [files[place] for place in chosen], targets[list(chosen)], spec, training=training
        )

    test = pictures(places["test"])

    def sample(index: int) -> Sample:
        place = index % len(test)
        return Sample(test.picture(place), rows[places["test"][place]]["label"] or "none", place)

    told = ("size", "channels", "mean", "std", "interpolation", "test_crop")
    assert spec.size is not None
    return ImageData(
        names,
        pictures(places["train"], training=True),
        test,
        spec.size,
        sample,
        spec.workers,
        channels=spec.channels,
        prepared=spec.model_dump(mode="json", include=set(told)) | {"channels": spec.channels},
        validation=pictures(places["validation"]) if places["validation"] else None,
        pool=pictures(range(len(rows))) if spec.split is not None else None,
        places=places["test"] if spec.split is not None else None,
        task=spec.task,
    )


def _targets(owner: str, cells: Sequence[str], spec: TableData) -> tuple[list[str], NDArray]:
    """The labels' names, or that of the number, and `(N, K)`."""
    if spec.task == "regression":
        numbers = []
        for line, cell in enumerate(cells, start=2):
            try:
                numbers.append(float(cell))
            except ValueError:
                numbers.append(math.nan)
            if not math.isfinite(numbers[-1]):
                raise DataError(f"{owner}, line {line}: label is {cell!r}, which is no number.")
        return ["label"], np.array(numbers, np.float32)[:, None]
    told = [{name.strip() for name in cell.split(BETWEEN)} - {""} for cell in cells]
    names = sorted(set().union(*told))
    if not names:
        raise DataError(f"{owner} has no label at all.")
    return names, np.array([[name in own for name in names] for own in told], np.float32)
