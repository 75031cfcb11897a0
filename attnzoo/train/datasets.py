"""Data sets by torchvision's and timm's names: found, opened and checked, nothing read yet."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import timm.data
import torchvision
from PIL import Image
from timm.data import dataset_factory

from attnzoo.checks import did_you_mean
from attnzoo.errors import AttnzooError, DataError, UnknownNameError
from attnzoo.train.reading import as_picture, open_picture

__all__ = ["NamedSplit", "open_timm", "open_torchvision", "torchvision_names"]

TRAIN_SPLITS = ("train", "trainval", "train-standard")
NOT_ONE_CLASS = (
    "CelebA",
    "Cityscapes",
    "Kitti",
    "SBDataset",
    "VOCDetection",
    "VOCSegmentation",
    "WIDERFace",
)
"""Their targets are boxes, masks or several attributes."""

TEST_SPLITS = ("test", "val", "validation")


class Indexed(Protocol):
    """A data set of picture and class."""

    def __getitem__(self, index: int) -> Any: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class NamedSplit:
    """One split of a data set.

    Attributes:
        owner: what errors call it.
        dataset: index → picture and class.
        labels: class of every picture.
        classes: their names.
        files: paths of the pictures, where they are files.
    """

    owner: str
    dataset: Indexed
    labels: Sequence[int]
    classes: list[str]
    files: list[str] | None

    def read(self, index: int, channels: int = 3) -> tuple[Image.Image, int]:
        """The picture in so many channels, and its class."""
        if self.files is not None:
            return open_picture(self.files[index], channels), self.labels[index]
        try:
            picture, label = self.dataset[index]
            return as_picture(picture, channels), int(label)
        except Exception as error:  # decoders raise whatever they come upon
            raise DataError(f"{self.owner}, image {index}: cannot be read ({error}).") from error


def torchvision_names() -> list[str]:
    """Names of torchvision's data sets of pictures that have classes and splits."""
    names = []
    for name in torchvision.datasets.__all__:
        cls = getattr(torchvision.datasets, name)
        options = inspect.signature(cls.__init__).parameters if inspect.isclass(cls) else {}
        kinds = (torchvision.datasets.ImageFolder, torchvision.datasets.MNIST)
        has_classes = "target_transform" in options or (options and issubclass(cls, kinds))
        if has_classes and {"train", "split"} & set(options) and name not in NOT_ONE_CLASS:
            names.append(name)
    return names


def open_torchvision(
    name: str, root: str, *, download: bool, options: dict[str, Any]
) -> tuple[NamedSplit, NamedSplit]:
    """Training and test split of the data set `torchvision.datasets.<name>`.

    Raises:
        UnknownNameError: there is no such data set with splits.
        DataError: it is not in `root`, or has no pictures with one class each.
    """
    if name not in torchvision_names():
        alike = [known for known in torchvision_names() if known.lower() == name.lower()]
        hint = f" Did you mean {alike[0]!r}?" if alike else did_you_mean(name, torchvision_names())
        raise UnknownNameError(
            f"torchvision has no data set {name!r} with classes and splits.{hint} "
            f"There are: {', '.join(torchvision_names())}."
        )
    cls = getattr(torchvision.datasets, name)
    known = inspect.signature(cls.__init__).parameters
    wrong = [key for key in options if key not in known]
    if wrong and "kwargs" not in known:
        raise DataError(
            f"torchvision's {name} has no option {wrong[0]!r}.{did_you_mean(wrong[0], known)}"
        )
    if download and {"download", "kwargs"} & set(known):
        options = {**options, "download": True}
    owner = f"torchvision's {name} in {root!r}"
    if "train" in known or issubclass(cls, torchvision.datasets.MNIST):
        pair = [_try(cls, owner, root, {**options, "train": train}) for train in (True, False)]
    else:
        pair = [_first(cls, owner, root, options, splits) for splits in (TRAIN_SPLITS, TEST_SPLITS)]
    train, test = (
        _named(f"{owner}, {split}", dataset)
        for split, dataset in zip(("train", "test"), pair, strict=True)
    )
    return _checked(train, test)


def open_timm(
    name: str, root: str, *, train_split: str, test_split: str, download: bool
) -> tuple[NamedSplit, NamedSplit]:
    """Training and test split of what `timm.data.create_dataset` calls `name`.

    Raises:
        UnknownNameError: timm has no such data set.
        DataError: it cannot be opened.
    """
    owner = f"timm's data set {name!r} in {root!r}"
    known = ["", *(f"torch/{key}" for key in (*dataset_factory._TORCH_BASIC_DS, *_TIMM_TORCH))]
    if name.partition("/")[0] in ("hfds", "hfids", "tfds", "wds"):
        raise DataError(
            f"{owner} goes through another library's reader, which this does not open. Save it as "
            f"a folder of images, or use torch/…"
        )
    if name not in known:
        raise UnknownNameError(
            f"timm has no data set {name!r}.{did_you_mean(name, known)} There are: "
            f"{', '.join(known[1:])}, and '' for a folder."
        )
    pair = []
    for split in (train_split, test_split):
        try:
            dataset = timm.data.create_dataset(name, root, split=split, download=download)
        except Exception as error:
            raise DataError(f"{owner}, {split}: {type(error).__name__}: {error}") from error
        pair.append(_named(f"{owner}, {split}", dataset))
    return _checked(*pair)


# Of timm's names for torchvision's data sets, those that its own table does not list.
_TIMM_TORCH = ("inaturalist", "places365", "qmnist", "imagenet", "image_folder")


def _first_of(dataset: Any, *names: str) -> Any:
    return next((getattr(dataset, name) for name in names if hasattr(dataset, name)), None)


def _try(cls: Any, owner: str, root: str, options: dict[str, Any]) -> Any:
    try:
        return cls(root, **options)
    except AttnzooError:
        raise
    except Exception as error:  # each data set has its own way of not being there
        hint = (
            "" if options.get("download") else " With download: true it is fetched, if it can be."
        )
        raise DataError(f"{owner}: {str(error).rstrip('.')}.{hint}") from error


def _first(cls: Any, owner: str, root: str, options: dict[str, Any], splits: Sequence[str]) -> Any:
    """The first of `splits` that the data set has."""
    for split in splits:
        try:
            return _try(cls, owner, root, {**options, "split": split})
        except DataError as error:
            if "Unknown value" not in str(error):
                raise
    raise DataError(f"{owner} has no split called {' or '.join(map(repr, splits))}.")


def _named(owner: str, dataset: Any) -> NamedSplit:
    reader = getattr(dataset, "reader", None)  # timm's
    samples = _first_of(dataset, "samples", "_samples") or getattr(reader, "samples", None)
    if samples and isinstance(samples[0][0], str | Path):
        labels: Sequence[int] = [int(label) for _, label in samples]
        files = [str(path) for path, _ in samples]
    else:
        labels = _labels(owner, dataset)
        paths = getattr(dataset, "_image_files", None)
        files = None if paths is None else [str(path) for path in paths]
    return NamedSplit(owner, dataset, labels, _classes(dataset, reader, labels), files)


def _labels(owner: str, dataset: Any) -> list[int]:
    found = _first_of(dataset, "targets", "labels", "_labels")
    try:
        if found is not None and len(found) == len(dataset):
            return [int(label) for label in found]
    except (TypeError, ValueError):  # boxes, maps or several attributes
        pass
    raise DataError(f"{owner} does not tell the class of each picture.")


def _classes(dataset: Any, reader: Any, labels: Sequence[int]) -> list[str]:
    named = getattr(dataset, "classes", None)
    if named is not None:
        return [name[0] if isinstance(name, tuple) else str(name) for name in named]
    index = getattr(reader, "class_to_idx", None)
    if index:
        return sorted(index, key=index.__getitem__)
    return [str(label) for label in range(max(labels, default=-1) + 1)]


def _checked(train: NamedSplit, test: NamedSplit) -> tuple[NamedSplit, NamedSplit]:
    classes = train.classes
    for split in (train, test):
        if not len(split.labels):
            raise DataError(f"{split.owner} is empty.")
        outside = {label for label in split.labels if not 0 <= label < len(classes)}
        if outside:
            raise DataError(
                f"{split.owner}: classes {sorted(outside)[:5]} of its pictures are none of the "
                f"{len(classes)} that train has."
            )
    lacking = sorted(set(train.labels) - set(test.labels))
    if lacking:
        names = ", ".join(classes[label] for label in lacking[:10])
        raise DataError(f"{test.owner} has no picture of: {names}.")
    if len(set(train.labels)) < 2:
        raise DataError(f"{train.owner} has one class; two are needed.")
    return train, test
