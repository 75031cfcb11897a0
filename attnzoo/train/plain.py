"""Data sets of one's own: plain map-style ones, of pictures or of tensors, as `ImageData`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from PIL import Image
from torch import Tensor

from attnzoo.errors import DataError
from attnzoo.train.keys import Key, drawing
from attnzoo.train.pictures import PictureOptions, Pictures
from attnzoo.train.reading import as_picture

__all__ = ["Keyed", "classes_of", "labels_of", "plain_split"]


class Keyed:
    """A plain data set of tensors and classes, as a map from keys to images.

    What it draws while it makes an item depends on the key alone.

    Args:
        owner: what errors call it.
        dataset: index → image `(C, S, S)`, class.
        labels: class of each.
    """

    def __init__(self, owner: str, dataset: Any, labels: Sequence[int]) -> None:
        self.owner = owner
        self.dataset = dataset
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        with drawing(key):
            image, label = self.dataset[key[2]][:2]
        return image, int(label)

    def picture(self, index: int) -> np.ndarray:
        """The image from its lowest to its highest value, `(S, S, 3)` uint8."""
        image = self[0, 0, index][0].float()[:3]
        image = image.expand(3, -1, -1) if len(image) < 3 else image
        low, high = image.min(), image.max()
        scaled = (image - low) / (high - low).clamp_min(1e-12)
        return (scaled * 255).round().byte().permute(1, 2, 0).numpy()


def plain_split(
    owner: str, dataset: Any, options: PictureOptions, *, training: bool
) -> Keyed | Pictures:
    """One split as the training wants it: tensors as they come, pictures prepared by the options.

    Raises:
        DataError: it is no map-style data set of images and classes.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{owner} is a {type(dataset).__name__}. It must be a map-style data set: len(), and "
            f"an index gives an image and its class."
        )
    if not len(dataset):
        raise DataError(f"{owner} is empty.")
    first = dataset[0]
    if not isinstance(first, Sequence) or len(first) < 2:
        raise DataError(f"{owner}: item 0 is a {type(first).__name__}, not an image and its class.")
    image = first[0]
    if isinstance(image, Image.Image):
        return Pictures(
            _Read(dataset, options.channels), labels_of(owner, dataset), options, training=training
        )
    if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point():
        told = f"{tuple(image.shape)} {image.dtype}" if isinstance(image, Tensor) else ""
        raise DataError(
            f"{owner}: item 0 has a {type(image).__name__} {told}. An image is a picture "
            f"(PIL.Image), which the options of the data prepare, or a floating-point tensor "
            f"(C, S, S)."
        )
    if image.shape[1] != image.shape[2]:
        raise DataError(f"{owner}: images of {tuple(image.shape)} are not square.")
    return Keyed(owner, dataset, labels_of(owner, dataset))


class _Read:
    """Index → picture and class."""

    def __init__(self, dataset: Any, channels: int) -> None:
        self.dataset = dataset
        self.channels = channels

    def __call__(self, index: int) -> tuple[Image.Image, int]:
        picture, label = self.dataset[index][:2]
        return as_picture(picture, self.channels), int(label)


def labels_of(owner: str, dataset: Any) -> list[int]:
    """The class of every item: what the data set tells of it, else by looking at each."""
    for name in ("targets", "labels", "_labels"):
        told = getattr(dataset, name, None)
        if told is not None and len(told) == len(dataset):
            return [int(label) for label in told]
    try:
        return [int(dataset[index][1]) for index in range(len(dataset))]
    except (TypeError, ValueError) as error:
        raise DataError(f"{owner}: a class is no whole number ({error}).") from error


def classes_of(train: Any, labels: Sequence[int]) -> list[str]:
    """Names of the classes: the data set's own, else their numbers."""
    named = getattr(train, "classes", None)
    if named is not None:
        return [str(name) for name in cast(Sequence[Any], named)]
    return [str(label) for label in range(max(labels) + 1)]
