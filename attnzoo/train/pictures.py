"""Pictures that are read one by one: how they are cropped, augmented (by timm) and keyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator
from timm.data import create_transform

from attnzoo.errors import DataError
from attnzoo.train.config import Config
from attnzoo.train.keys import Key, drawing

__all__ = ["PictureOptions", "Pictures", "evenly", "open_picture", "rising"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as pretrained weights expect
Share = tuple[float, float]
Read = Callable[[int], tuple[Image.Image, int]]
"""Index → picture and class. A picture that cannot be read is a `DataError`."""


def rising(share: Share) -> Share:
    """`share`, if it is a range of shares."""
    if not 0 < share[0] <= share[1] <= 1:
        raise ValueError("must be two numbers, 0 < smallest ≤ largest ≤ 1")
    return share


class PictureOptions(Config):
    """What all data sets of pictures can be told.

    Attributes:
        size: side of the images in pixels.
        train: at most how many training images, spread evenly over the classes; None is all.
        test: likewise for the test images.
        crop_scale: smallest and largest share of the area that a training crop keeps.
        hflip: chance of mirroring a training image.
        color_jitter: largest change of brightness, contrast and saturation; 0 is none.
        auto_augment: timm's RandAugment, AutoAugment or AugMix, such as `rand-m9-mstd0.5`, or
            None. `color_jitter` is off with it, as in timm.
        random_erasing: chance that a rectangle of a training image is erased.
        test_crop: share of the shorter side that the central crop of a test image keeps.
        seed: chooses the images where `train` or `test` asks for fewer than there are.
        workers: processes that read images beside the training; 0 reads in between.
        check: at most how many image files to look at before training starts, spread evenly; 0 is
            none, None all.
    """

    size: int = Field(224, ge=8)
    train: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)
    crop_scale: Share = (0.6, 1.0)
    hflip: float = Field(0.5, ge=0, le=1)
    color_jitter: float = Field(0.0, ge=0)
    auto_augment: str | None = None
    random_erasing: float = Field(0.0, ge=0, le=1)
    test_crop: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)
    check: int | None = Field(100_000, ge=0)

    _crop_scale_rises = field_validator("crop_scale")(rising)

    @field_validator("auto_augment")
    @classmethod
    def _is_timms(cls, policy: str | None) -> str | None:
        if policy is not None:
            try:
                create_transform(32, is_training=True, auto_augment=policy)
            except Exception as error:  # timm asserts, or fails on a part of the text
                raise ValueError(
                    f"is not known to timm ({type(error).__name__}: {error}); write, for example, "
                    f"rand-m9-mstd0.5, augmix-m3-w3 or original"
                ) from error
        return policy

    def transform(self, *, training: bool) -> Callable[[Image.Image], torch.Tensor]:
        """What makes `(3, S, S)` of a picture, at random in training."""
        options: dict[str, Any] = {"mean": MEAN, "std": STD, "interpolation": "bilinear"}
        if training:
            options |= {
                "scale": self.crop_scale,
                "hflip": self.hflip,
                "color_jitter": self.color_jitter or None,
                "auto_augment": self.auto_augment,
                "re_prob": self.random_erasing,
            }
        else:
            options |= {"crop_pct": self.test_crop}
        return create_transform(self.size, is_training=training, **options)


class Pictures:
    """One split of a data set of pictures, as a map from keys to images.

    A training image is a random crop, enlarged to the size, and mirrored and augmented at random;
    a test image is the central crop. The draws depend on the key alone.

    Args:
        read: index → picture and class.
        labels: class of each picture.
        options: how they are prepared.
        training: whether to draw.
    """

    def __init__(
        self, read: Read, labels: Sequence[int], options: PictureOptions, *, training: bool
    ) -> None:
        self.read = read
        self.labels = list(labels)
        self.transform = options.transform(training=training)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        picture, label = self.read(key[2])
        with drawing(key):
            return self.transform(picture), label

    def picture(self, index: int) -> np.ndarray:
        """The image as it reaches the network, `(S, S, 3)` uint8."""
        pixels = self[0, 0, index][0] * torch.tensor(STD)[:, None, None]
        pixels = pixels + torch.tensor(MEAN)[:, None, None]
        return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def open_picture(path: str) -> Image.Image:
    """An image file in RGB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # decoders raise whatever they come upon
        raise DataError(f"{path}: cannot be read as an image ({error}).") from error


def evenly(labels: Sequence[int], limit: int | None, seed: int) -> list[int]:
    """Indices of at most `limit` images, in order, as many of each class as can be."""
    if limit is None or limit >= len(labels):
        return list(range(len(labels)))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    seen: dict[int, int] = {}
    rank = np.empty(len(labels), dtype=int)  # place of an image in its own class's shuffled line
    for index in shuffled:
        label = labels[index]
        rank[index] = seen.get(label, 0)
        seen[label] = rank[index] + 1
    return sorted(sorted(shuffled.tolist(), key=lambda index: rank[index])[:limit])
