"""How data are described: the keys of `data` in a study and in `attnzoo train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from attnzoo.checks import did_you_mean
from attnzoo.train.config import Config, faults
from attnzoo.train.pictures import PictureOptions, rising

__all__ = [
    "SPECS",
    "DataSpec",
    "DigitsData",
    "FolderData",
    "OwnData",
    "Redrawn",
    "TableData",
    "Task",
    "TimmData",
    "TorchvisionData",
    "data_faults",
]

Share = tuple[float, float]
Task = Literal["classes", "multilabel", "regression"]
"""What a network is asked for of an image."""


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


Validation = Annotated[float, Field(gt=0, lt=1)] | str | None


class Redrawn(PictureOptions):
    """What is drawn anew for each seed, where that is asked for.

    Attributes:
        split: `by seed` draws train and test images anew from all there are at each seed; each
            class has its share of both.
        folds: with it, cross-validation: so many seeds after one another test on each image once.
        draw: which of the draws; runs take their seed.
        test_share: share of the images to test on, where they are drawn.
    """

    split: Literal["by seed"] | None = None
    folds: int | None = Field(None, ge=2)
    draw: int | None = Field(None, ge=0)
    test_share: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _is_drawn_whole(self) -> Self:
        for name, wrong in (
            *((name, self.split is None) for name in ("folds", "draw")),
            *((name, self.split is not None) for name in ("train", "test")),
        ):
            if wrong and getattr(self, name) is not None:
                how = "needs" if self.split is None else "does not go with"
                raise ValueError(f"{name}={getattr(self, name)} {how} split: by seed")
        return self

    @property
    def shared(self) -> float:
        """Test images for each training image, where they are drawn; 0 where they are not."""
        if self.split is None:
            return 0.0
        share = 1 / self.folds if self.folds else self.test_share
        aside = getattr(self, "validation", None)
        kept = 1 - aside if isinstance(aside, float) else 1.0
        return share / ((1 - share) * kept)

    def at(self, seed: int) -> Self:
        """The data as a run with this seed has them."""
        if self.split is None or self.draw is not None:
            return self
        return self.model_copy(update={"draw": seed})


class FolderData(Redrawn):
    """A folder of images, `train/<class>/*.jpg` and `test/<class>/*.jpg`.

    The other options are those of `PictureOptions`. With `split: by seed` the images of all splits
    are drawn from; where there is none, `<class>/*.jpg` alone will do.

    Attributes:
        root: the folder; in a study file, relative to that file.
        test_split: folder of the test images; None is `test`, or `val` where that is all there is.
        validation: folder of images to choose an epoch by, or a share of the training images to
            set aside for that, with the same share of each class.
        group: with `split: by seed`, what stands in a file's name before this text is its group,
            and images of one group stay together.
    """

    added: ClassVar[tuple[str, ...]] = (
        *PictureOptions.added,
        *("test_split", "validation", "split", "folds", "draw", "test_share", "group"),
    )

    name: Literal["folder"] = "folder"
    root: str
    test_split: str | None = None
    validation: Validation = None
    group: str | None = Field(None, min_length=1)


class TableData(Redrawn):
    """Pictures named by a CSV file with the columns `path` and `label`, maybe `split`, `group`.

    The other options are those of `PictureOptions`.

    Attributes:
        root: the CSV file; in a study file, relative to that file. The paths in it are relative
            to the CSV file.
        test_share: share of the pictures to test on, where there is no column `split`, or with
            `split: by seed`; each class has its share in it, and pictures of one `group` stay
            together.
        validation: a share of the training images to set aside for choosing an epoch.
        task: what `label` is: one of the `classes`; `multilabel`, none or several with `;` between
            them; or a number, for `regression`. Numbers are best scaled to about -1 to 1.
    """

    added: ClassVar[tuple[str, ...]] = (
        *PictureOptions.added,
        *("validation", "split", "folds", "draw", "task"),
    )

    name: Literal["table"] = "table"
    root: str
    validation: Annotated[float, Field(gt=0, lt=1)] | None = None
    task: Task = "classes"


class OwnData(PictureOptions):
    """What a function of yours returns: training and test data sets, map-style.

    The other options are those of `PictureOptions`; they prepare pictures. Tensors are taken as
    they come.

    Attributes:
        function: `"package.module:function"`; in a study, also of a module beside its file. It
            returns `(train, test)`, or `(train, validation, test)`; an item of a data set is an
            image and its class.
        options: arguments of the function.
    """

    name: Literal["own"] = "own"
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    options: dict[str, Any] = Field(default_factory=dict)


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


DataSpec = DigitsData | FolderData | TableData | TorchvisionData | TimmData | OwnData
SPECS: dict[str, type[DataSpec]] = {
    "cluttered-digits": DigitsData,
    "folder": FolderData,
    "table": TableData,
    "torchvision": TorchvisionData,
    "timm": TimmData,
    "own": OwnData,
}


def data_faults(value: Any, owner: str) -> list[str]:
    """What is wrong with a description of data, a line a fault."""
    name = value.get("name") if isinstance(value, Mapping) else None
    if name not in SPECS:
        *some, last = map(repr, SPECS)
        return [
            f"{owner}: needs a name, {', '.join(some)} or {last} (given: {name!r})."
            f"{did_you_mean(name, SPECS) if isinstance(name, str) else ''}"
        ]
    return faults(SPECS[name], value, owner)
