"""How data are described: the keys of `data` in a study and in `attnzoo train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from attnzoo.checks import did_you_mean
from attnzoo.train.config import Config, faults
from attnzoo.train.pictures import PictureOptions, rising

__all__ = [
    "SPECS",
    "DataSpec",
    "DigitsData",
    "FolderData",
    "TimmData",
    "TorchvisionData",
    "data_faults",
]

Share = tuple[float, float]


class DigitsData(Config):
    """Cluttered digits, made on the fly. See `attnzoo.train.ClutteredDigits`.

    Attributes:
        size: side of the images in pixels.
        train: images an epoch; every epoch has new ones.
        test: images in the test set, the same for every run.
        clutter: fragments of other digits in an image.
        digit: smallest and largest side of the digit, as a share of the image's.
        seed: of the test set.
    """

    name: Literal["cluttered-digits"] = "cluttered-digits"
    size: int = Field(64, ge=16)
    train: int = Field(2000, ge=1)
    test: int = Field(500, ge=1)
    clutter: int = Field(6, ge=0)
    digit: Share = (0.45, 0.6)
    seed: int = Field(0, ge=0)

    _digit_rises = field_validator("digit")(rising)


class FolderData(PictureOptions):
    """A folder of images, `train/<class>/*.jpg` and `test/<class>/*.jpg`.

    The other options are those of `PictureOptions`.

    Attributes:
        root: the folder; in a study file, relative to that file.
    """

    name: Literal["folder"] = "folder"
    root: str


class TorchvisionData(PictureOptions):
    """A data set of torchvision's, such as CIFAR10, Flowers102 or ImageNet.

    The other options are those of `PictureOptions`.

    Attributes:
        dataset: its class's name in `torchvision.datasets`.
        root: where its files are, or go; in a study file, relative to that file.
        download: fetch what is missing, where torchvision can.
        options: more arguments of the class.
    """

    name: Literal["torchvision"] = "torchvision"
    dataset: str
    root: str
    download: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


class TimmData(PictureOptions):
    """A data set that `timm.data.create_dataset` finds, such as `torch/cifar10` or a folder.

    The other options are those of `PictureOptions`.

    Attributes:
        dataset: timm's name; empty for a folder with a folder for each split.
        root: where its files are, or go; in a study file, relative to that file.
        train_split, test_split: what timm calls the splits.
        download: fetch what is missing, where timm can.
    """

    name: Literal["timm"] = "timm"
    dataset: str
    root: str
    train_split: str = "train"
    test_split: str = "validation"
    download: bool = False


DataSpec = DigitsData | FolderData | TorchvisionData | TimmData
SPECS: dict[str, type[DataSpec]] = {
    "cluttered-digits": DigitsData,
    "folder": FolderData,
    "torchvision": TorchvisionData,
    "timm": TimmData,
}


def data_faults(value: Any, owner: str) -> list[str]:
    """What is wrong with a description of data, a line a fault."""
    name = value.get("name") if isinstance(value, Mapping) else None
    if name not in SPECS:
        *some, last = map(repr, SPECS)
        return [
            f"{owner}: needs a name, {', '.join(some)} or {last} (given: {name!r})."
            f"{did_you_mean(str(name), SPECS)}"
        ]
    return faults(SPECS[name], value, owner)
