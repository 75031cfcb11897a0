"""What to train on: cluttered digits or a folder of images, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from pydantic import Field, field_validator
from torch.utils.data import DataLoader, Dataset

from attnzoo.checks import did_you_mean
from attnzoo.errors import DataError, OptionError
from attnzoo.train.config import Config, faults, parse
from attnzoo.train.digits import ClutteredDigits
from attnzoo.train.folder import FolderImages, find_splits
from attnzoo.train.keys import KeySampler
from attnzoo.train.recipe import TrainRecipe

__all__ = ["DataSpec", "DigitsData", "FolderData", "ImageData", "data_faults", "open_data"]

Share = tuple[float, float]
Loader = DataLoader[tuple[torch.Tensor, torch.Tensor]]


def _rising(share: Share) -> Share:
    if not 0 < share[0] <= share[1] <= 1:
        raise ValueError("must be two numbers, 0 < smallest ≤ largest ≤ 1")
    return share


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

    _digit_rises = field_validator("digit")(_rising)


class FolderData(Config):
    """A folder of images, `train/<class>/*.jpg` and `test/<class>/*.jpg`.

    Attributes:
        root: the folder; in a study file, relative to that file.
        size: side of the images in pixels.
        train: at most how many training images, spread evenly over the classes; None is all.
        test: likewise for the test images.
        crop_scale: smallest and largest share of the area that a training crop keeps.
        hflip: chance of mirroring a training image.
        seed: chooses the images where `train` or `test` asks for fewer than there are.
        workers: processes that read images beside the training; 0 reads in between.
    """

    name: Literal["folder"] = "folder"
    root: str
    size: int = Field(224, ge=8)
    train: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)
    crop_scale: Share = (0.6, 1.0)
    hflip: float = Field(0.5, ge=0, le=1)
    seed: int = Field(0, ge=0)
    workers: int = Field(0, ge=0)

    _crop_scale_rises = field_validator("crop_scale")(_rising)


DataSpec = DigitsData | FolderData
SPECS: dict[str, type[DigitsData] | type[FolderData]] = {
    "cluttered-digits": DigitsData,
    "folder": FolderData,
}


class Images(Protocol):
    """One split: a map from keys to images."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Sample:
    """A test image for people.

    Attributes:
        picture: `(S, S, 3)` uint8.
        label: its class.
        index: its place among the test images.
        box: of the object, if known.
    """

    picture: np.ndarray
    label: str
    index: int
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class ImageData:
    """A data set that is there and in order.

    Attributes:
        classes: their names.
        train, test: the splits.
        size: side of the images in pixels.
        sample: index → a test image for people.
        workers: processes that read images.
        test_seed: of the test images' keys.
    """

    classes: list[str]
    train: Images
    test: Images
    size: int
    sample: Callable[[int], Sample]
    workers: int = 0
    test_seed: int = 0

    def loaders(self, recipe: TrainRecipe) -> tuple[Loader, Loader]:
        """Batches for training, whose sampler is a `KeySampler`, and for testing.

        Raises:
            DataError: if the training images do not fill one batch.
        """
        if len(self.train) < recipe.batch_size:
            raise DataError(
                f"batch_size={recipe.batch_size} is more than the {len(self.train)} training "
                f"images. Lower it."
            )
        sampler = KeySampler(len(self.train), seed=recipe.seed, shuffle=True)
        order = KeySampler(len(self.test), seed=self.test_seed)
        return (
            self._loader(self.train, sampler, recipe.batch_size, drop_last=True),
            self._loader(self.test, order, max(recipe.batch_size, 64), drop_last=False),
        )

    def test_images(self, indices: Sequence[int]) -> torch.Tensor:
        """Test images as a network sees them, `(N, 3, S, S)`."""
        keys: Any = [(self.test_seed, 0, index) for index in indices]
        if isinstance(self.test, ClutteredDigits):
            return self.test.__getitems__(keys)[0]
        return torch.stack([cast(Any, self.test)[key][0] for key in keys])

    def _loader(
        self, images: Images, sampler: KeySampler, batch_size: int, *, drop_last: bool
    ) -> Loader:
        made_whole = isinstance(images, ClutteredDigits)  # draws a batch at once, faster
        return DataLoader(
            cast(Dataset[Any], images),  # keyed by Key, which DataLoader passes through
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_as_it_is if made_whole else None,
            pin_memory=torch.cuda.is_available(),
        )


def open_data(spec: DataSpec | Mapping[str, Any]) -> ImageData:
    """The data set that `spec` describes.

    Raises:
        OptionError: `spec` has a wrong key or value.
        DataError: the folder is missing, empty, or its classes do not match.
    """
    if not isinstance(spec, DigitsData | FolderData):
        found = data_faults(spec, "data")
        if found:
            raise OptionError("\n".join(found))
        spec = parse(SPECS[spec["name"]], spec, "data")
    return _open_digits(spec) if isinstance(spec, DigitsData) else _open_folder(spec)


def data_faults(value: Any, owner: str) -> list[str]:
    """What is wrong with a description of data, a line a fault."""
    name = value.get("name") if isinstance(value, Mapping) else None
    if name not in SPECS:
        listed = " or ".join(map(repr, SPECS))
        return [
            f"{owner}: needs a name, {listed} (given: {name!r}).{did_you_mean(str(name), SPECS)}"
        ]
    return faults(SPECS[name], value, owner)


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
    limits = {"train": spec.train, "test": spec.test}
    classes, files = find_splits(Path(spec.root), limits, spec.seed)
    train = FolderImages(
        files["train"], spec.size, training=True, crop_scale=spec.crop_scale, hflip=spec.hflip
    )
    test = FolderImages(files["test"], spec.size)

    def sample(index: int) -> Sample:
        # Step through the file list, which is ordered by class, so that samples differ in class.
        place = (index * (len(test) // len(classes) + 1)) % len(test)
        return Sample(test.picture(place), classes[test.files[place][1]], place)

    return ImageData(classes, train, test, spec.size, sample, spec.workers)


def _as_it_is(batch: Any) -> Any:
    return batch
