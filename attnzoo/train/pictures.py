"""Pictures that are read one by one: how they are cropped, augmented (by timm) and keyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator, model_validator
from timm.data import create_transform

from attnzoo.backbones import InputOptions
from attnzoo.train.config import Config
from attnzoo.train.keys import Key, drawing

__all__ = ["PictureOptions", "Pictures", "evenly", "rising"]

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

    What is None of size, mean, std, interpolation and test_crop is what the backbone's trained
    weights expect; with fresh weights 224, ImageNet's mean and standard deviation, `bilinear`, 1.

    Attributes:
        size: side of the images in pixels.
        channels: of the images: 1 is grey, 3 RGB, 4 RGB and what lies over it.
        mean, std: of each channel's pixels from 0 to 1, taken off and divided by; with other than
            three channels those of the weights are adapted as timm does.
        interpolation: by which pictures are scaled: `bilinear`, `bicubic`, `nearest` or `lanczos`.
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
        digest: how runs on these pictures are told from those on others: by names, sizes and a
            `"sample"` of the contents, or by all of them, `"full"`.
        check: at most how many image files to look at before training starts, spread evenly; 0 is
            none, None all.
    """

    added: ClassVar[tuple[str, ...]] = ("channels", "mean", "std", "interpolation", "digest")

    size: int | None = Field(None, ge=8)
    channels: Literal[1, 3, 4] = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] | None = None
    train: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)
    crop_scale: Share = (0.6, 1.0)
    hflip: float = Field(0.5, ge=0, le=1)
    color_jitter: float = Field(0.0, ge=0)
    auto_augment: str | None = None
    random_erasing: float = Field(0.0, ge=0, le=1)
    test_crop: float | None = Field(None, gt=0, le=1)
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)
    digest: Literal["sample", "full"] = "sample"
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

    @model_validator(mode="after")
    def _has_a_number_a_channel(self) -> Self:
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is not None and len(given) != self.channels:
                raise ValueError(
                    f"{name}={list(given)} needs a number for each of channels={self.channels}"
                )
        return self

    def filled(self, expected: InputOptions) -> Self:
        """With what is expected where nothing is given."""
        values = {
            "size": expected.size,
            "mean": _for_channels(expected.mean, self.channels),
            "std": _for_channels(expected.std, self.channels),
            "interpolation": expected.interpolation,
            "test_crop": expected.test_crop,
        }
        new = {name: value for name, value in values.items() if getattr(self, name) is None}
        return self.model_copy(update=new)

    def transform(self, *, training: bool) -> Callable[[Image.Image], torch.Tensor]:
        """What makes `(channels, S, S)` of a picture, at random in training."""
        told = self.filled(InputOptions())
        assert told.size is not None
        options: dict[str, Any] = {
            "mean": told.mean,
            "std": told.std,
            "interpolation": told.interpolation,
        }
        if training:
            options |= {
                "scale": self.crop_scale,
                "hflip": self.hflip,
                "color_jitter": self.color_jitter or None,
                "auto_augment": self.auto_augment,
                "re_prob": self.random_erasing,
            }
        else:
            options |= {"crop_pct": told.test_crop}
        return create_transform(told.size, is_training=training, **options)


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Three channels' means or deviations for another number of channels, as timm has them."""
    if channels == len(values):
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[index % len(values)] for index in range(channels))


class Pictures:
    """One split of a data set of pictures, as a map from keys to images.

    A training image is a random crop, enlarged to the size, and mirrored and augmented at random;
    a test image is the central crop. The draws depend on the key alone.

    Args:
        read: index → picture, of as many channels as the options say, and class.
        labels: class of each picture.
        options: how they are prepared.
        training: whether to draw.
    """

    def __init__(
        self, read: Read, labels: Sequence[int], options: PictureOptions, *, training: bool
    ) -> None:
        self.read = read
        self.labels = list(labels)
        told = options.filled(InputOptions())
        self.mean, self.std = told.mean or (), told.std or ()
        self.transform = options.transform(training=training)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        picture, label = self.read(key[2])
        with drawing(key):
            return self.transform(picture), label

    def path(self, index: int) -> str | None:
        """Of a picture's file; None where it is none."""
        return None

    def picture(self, index: int) -> np.ndarray:
        """The image as it reaches the network, `(S, S, 3)` uint8; of grey ones three times."""
        image = self[0, 0, index][0]
        pixels = image * torch.tensor(self.std)[:, None, None]
        pixels = (pixels + torch.tensor(self.mean)[:, None, None])[:3]
        pixels = pixels.expand(3, -1, -1) if len(pixels) == 1 else pixels
        return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


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
