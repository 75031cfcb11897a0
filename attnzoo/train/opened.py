"""From a description of data to `ImageData`: digits, folders, tables, libraries', one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnzoo.backbones import InputOptions, find_function
from attnzoo.errors import DataError, OptionError
from attnzoo.train.checking import check_files
from attnzoo.train.config import parse
from attnzoo.train.data import ImageData, Sample
from attnzoo.train.datasets import NamedSplit, open_timm, open_torchvision
from attnzoo.train.describing import (
    SPECS,
    DataSpec,
    DigitsData,
    FolderData,
    OwnData,
    TableData,
    TimmData,
    TorchvisionData,
    data_faults,
)
from attnzoo.train.digits import ClutteredDigits
from attnzoo.train.folder import FolderPictures, find_all, find_splits
from attnzoo.train.pictures import PictureOptions, Pictures, evenly
from attnzoo.train.plain import classes_of, plain_split
from attnzoo.train.redrawing import drawn_test, prefixes
from attnzoo.train.table import draw_share, read_all, read_table
from attnzoo.train.targets import open_targets

__all__ = ["image_data", "open_data", "unchecked"]


def open_data(
    spec: DataSpec | Mapping[str, Any], expected: InputOptions | None = None
) -> ImageData:
    """The data set that `spec` describes.

    Args:
        spec: what to open.
        expected: what the network's weights expect of pictures (`attnzoo.backbones.input_options`),
            for what `spec` leaves open; ImageNet's mean and standard deviation at 224 pixels
            without it.

    Raises:
        OptionError: `spec` has a wrong key or value.
        UnknownNameError: torchvision or timm has no such data set.
        DataError: it is missing or empty, its classes do not match, or files are no images.
    """
    if not isinstance(spec, DataSpec):
        found = data_faults(spec, "data")
        if found:
            raise OptionError("\n".join(found))
        spec = parse(SPECS[spec["name"]], spec, "data")
    if isinstance(spec, DigitsData):
        return _open_digits(spec)
    spec = spec.filled(expected or InputOptions())
    if isinstance(spec, FolderData):
        return _open_folder(spec)
    if isinstance(spec, TableData):
        return _open_table(spec)
    return _open_own(spec) if isinstance(spec, OwnData) else _open_named(spec)


def unchecked(spec: DataSpec) -> DataSpec:
    """The same, opened without a look at its files."""
    return spec if isinstance(spec, DigitsData) else spec.model_copy(update={"check": 0})


def _open_digits(spec: DigitsData) -> ImageData:
    options: dict[str, Any] = spec.model_dump(include={"size", "clutter", "digit", "seed"})
    train = ClutteredDigits("train", length=spec.train, **options)
    test = ClutteredDigits("test", length=spec.test, **options)

    def sample(index: int) -> Sample:
        batch = test.draw([index])
        grey = (batch.images[0] * 255).round().astype(np.uint8)
        left, top, right, bottom = batch.boxes[0].tolist()
        picture = np.repeat(grey[:, :, None], 3, axis=2)
        return Sample(picture, str(batch.labels[0]), index, (left, top, right, bottom))

    return ImageData(train.classes, train, test, spec.size, sample, test_seed=spec.seed)


def _open_folder(spec: FolderData) -> ImageData:
    if spec.split is not None:
        classes, entries = find_all(Path(spec.root))
        groups = prefixes([path for path, _ in entries], spec)
        return _redrawn(classes, entries, groups, spec)
    limits = {"train": spec.train, "test": spec.test}
    names: dict[str, str | None] = {"test": spec.test_split}
    if isinstance(spec.validation, str):
        limits["validation"] = None
        names["validation"] = spec.validation
    classes, files = find_splits(Path(spec.root), limits, spec.seed, names)
    return _of_files(classes, files, spec, spec.validation)


def _open_table(spec: TableData) -> ImageData:
    if spec.task != "classes":
        return open_targets(spec)
    if spec.split is not None:
        return _redrawn(*read_all(spec.root), spec)
    classes, files = read_table(spec.root, spec.test_share, spec.seed)
    for split, limit in (("train", spec.train), ("test", spec.test)):
        chosen = evenly([label for _, label in files[split]], limit, spec.seed)
        files[split] = [files[split][index] for index in chosen]
    return _of_files(classes, files, spec, spec.validation)


def _redrawn(
    classes: list[str],
    entries: list[tuple[str, int]],
    groups: Sequence[str] | None,
    spec: FolderData | TableData,
) -> ImageData:
    places = drawn_test(f"data {spec.root!r}", [label for _, label in entries], spec, groups)
    tested = set(places)
    files = {
        "train": [entry for place, entry in enumerate(entries) if place not in tested],
        "test": [entries[place] for place in places],
    }
    share = spec.validation if isinstance(spec.validation, float) else None
    data = _of_files(classes, files, spec, share)
    return replace(data, pool=FolderPictures(entries, spec), places=places)


def _of_files(
    classes: list[str],
    files: dict[str, list[tuple[str, int]]],
    spec: FolderData | TableData,
    validation: float | str | None,
) -> ImageData:
    if isinstance(validation, float):
        train = files["train"]
        labels = [label for _, label in train]
        drawn = set(draw_share(f"train in {spec.root!r}", labels, validation, spec.seed))
        files["validation"] = [entry for i, entry in enumerate(train) if i in drawn]
        files["train"] = [entry for i, entry in enumerate(train) if i not in drawn]
    for split, found in files.items():
        check_files(f"{split} in {spec.root!r}", [path for path, _ in found], spec.check)
    splits = {
        split: FolderPictures(found, spec, training=split == "train")
        for split, found in files.items()
    }
    return _of_pictures(classes, splits["train"], splits["test"], spec, splits.get("validation"))


def _open_own(spec: OwnData) -> ImageData:
    owner = f"data {spec.function!r}"
    returned = find_function(spec.function, owner)(**spec.options)
    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        raise DataError(
            f"{owner} returned a {type(returned).__name__}; it must return (train, test) or "
            f"(train, validation, test)."
        )
    train, *validation, test = returned
    return image_data(train, test, *validation, options=spec, owner=owner)


def image_data(
    train: Any,
    test: Any,
    validation: Any = None,
    *,
    classes: Sequence[str] | None = None,
    options: PictureOptions | None = None,
    owner: str = "the data",
) -> ImageData:
    """Plain map-style data sets as `fit` and runs take them.

    Args:
        train: index → an image and its class, a whole number. An image is a tensor `(C, S, S)`,
            taken as it comes, or a picture (`PIL.Image`), which the options prepare. What it
            draws at random depends on seed, epoch and index alone.
        test: likewise.
        validation: likewise, to choose an epoch by; or None.
        classes: their names; by default `train.classes`, else numbers.
        options: how pictures are prepared.
        owner: what errors call it.

    Raises:
        DataError: one of them is no such data set, or a class of it has no name.

    Example:
        >>> import torch
        >>> from attnzoo.train import image_data
        >>> images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 2
        >>> dataset = torch.utils.data.TensorDataset(images, labels)
        >>> image_data(dataset, dataset).classes
        ['0', '1']
    """
    options = (options or PictureOptions()).filled(InputOptions())
    given = {"train": train, "test": test}
    given |= {} if validation is None else {"validation": validation}
    splits: dict[str, Any] = {
        name: plain_split(f"{owner}, {name}", split, options, training=name == "train")
        for name, split in given.items()
    }
    known = list(classes) if classes is not None else classes_of(train, splits["train"].labels)
    for name, split in splits.items():
        outside = sorted({n for n in split.labels if not 0 <= n < len(known)})
        if outside:
            raise DataError(f"{owner}, {name}: classes {outside[:5]} are none of {len(known)}.")
    if isinstance(splits["train"], Pictures):
        return _of_pictures(
            known, splits["train"], splits["test"], options, splits.get("validation")
        )
    channels, side, _ = splits["train"][0, 0, 0][0].shape

    def sample(index: int) -> Sample:
        label = known[splits["test"].labels[index]]
        return Sample(splits["test"].picture(index), label, index)

    return ImageData(
        known,
        splits["train"],
        splits["test"],
        side,
        sample,
        options.workers,
        channels=channels,
        validation=splits.get("validation"),
    )


def _open_named(spec: TorchvisionData | TimmData) -> ImageData:
    root = str(Path(spec.root).expanduser())
    if isinstance(spec, TorchvisionData):
        train, test = open_torchvision(
            spec.dataset, root, download=spec.download, options=spec.options
        )
    else:
        train, test = open_timm(
            spec.dataset,
            root,
            train_split=spec.train_split,
            test_split=spec.test_split,
            download=spec.download,
        )
    return _of_pictures(
        train.classes,
        _chosen(train, spec.train, spec, training=True),
        _chosen(test, spec.test, spec, training=False),
        spec,
    )


def _chosen(
    split: NamedSplit, limit: int | None, spec: PictureOptions, *, training: bool
) -> Pictures:
    """At most `limit` pictures of a split."""
    chosen = evenly(split.labels, limit, spec.seed)
    if split.files is not None:
        check_files(split.owner, [split.files[index] for index in chosen], spec.check)
    labels = [split.labels[index] for index in chosen]
    return _Chosen(_Selection(split, chosen, spec.channels), labels, spec, training=training)


class _Chosen(Pictures):
    """Pictures of a library's data set."""

    read: _Selection

    def path(self, index: int) -> str | None:
        files = self.read.split.files
        return None if files is None else files[self.read.chosen[index]]


@dataclass(frozen=True)
class _Selection:
    """Some pictures of a split; no closure, for processes that read images may have to copy it."""

    split: NamedSplit
    chosen: list[int]
    channels: int = 3

    def __call__(self, index: int) -> Any:
        return self.split.read(self.chosen[index], self.channels)


def _of_pictures(
    classes: list[str],
    train: Pictures,
    test: Pictures,
    spec: PictureOptions,
    validation: Pictures | None = None,
) -> ImageData:
    seen: Counter[int] = Counter()
    rank = []  # place of a picture among those of its class
    for label in test.labels:
        rank.append(seen[label])
        seen[label] += 1
    order = np.lexsort((test.labels, rank))  # one of each class, another of each, …

    def sample(index: int) -> Sample:
        place = int(order[index % len(order)])
        return Sample(test.picture(place), classes[test.labels[place]], place)

    assert spec.size is not None
    names = ("size", "channels", "mean", "std", "interpolation", "test_crop")
    return ImageData(
        classes,
        train,
        test,
        spec.size,
        sample,
        spec.workers,
        channels=spec.channels,
        prepared=spec.model_dump(mode="json", include=set(names)) | {"channels": spec.channels},
        validation=validation,
    )
