"""What to train on, behind one interface: digits, a folder, a data set of a library's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from attnzoo.backbones import InputOptions
from attnzoo.errors import DataError, OptionError
from attnzoo.train.checking import check_files
from attnzoo.train.config import parse
from attnzoo.train.datasets import NamedSplit, open_timm, open_torchvision
from attnzoo.train.describing import (
    SPECS,
    DataSpec,
    DigitsData,
    FolderData,
    TimmData,
    TorchvisionData,
    data_faults,
)
from attnzoo.train.digits import ClutteredDigits
from attnzoo.train.folder import FolderPictures, find_splits
from attnzoo.train.keys import TestKeys, TrainKeys
from attnzoo.train.pictures import PictureOptions, Pictures, evenly
from attnzoo.train.recipe import TrainRecipe
from attnzoo.train.stopping import leave_stopping_to_parent

__all__ = [
    "ImageData",
    "open_data",
    "unchecked",
]

Loader = DataLoader[tuple[torch.Tensor, torch.Tensor]]
TEST_BATCH = 64  # images, where a training pass takes fewer


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
        channels: of the images.
        prepared: how pictures become images: options of the data, as far as there are pictures.
        validation: a split to choose an epoch by, so that the test images need not.
    """

    classes: list[str]
    train: Images
    test: Images
    size: int
    sample: Callable[[int], Sample]
    workers: int = 0
    test_seed: int = 0
    channels: int = 3
    prepared: Mapping[str, Any] = field(default_factory=dict)
    validation: Images | None = None

    @property
    def drawn(self) -> bool:
        """Whether the images are made from numbers, and not from pictures."""
        return isinstance(self.train, ClutteredDigits)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, `(C, S, S)`."""
        return (self.channels, self.size, self.size)

    def loaders(
        self, recipe: TrainRecipe, rank: int = 0, processes: int = 1
    ) -> tuple[Loader, Loader]:
        """Batches for training, whose sampler is a `TrainKeys`, and for testing, by `TestKeys`.

        Args:
            recipe: says how many images a step has.
            rank: which of the processes that train together this is.
            processes: how many they are.

        Raises:
            DataError: if the training images do not fill one batch.
            OptionError: if the processes do not divide the batch.
        """
        if len(self.train) < recipe.batch_size:
            raise DataError(
                f"batch_size={recipe.batch_size} is more than the {len(self.train)} training "
                f"images. Lower it."
            )
        images = recipe.images_a_pass(processes)
        keys = TrainKeys(
            len(self.train),
            seed=recipe.seed,
            batch_size=recipe.batch_size,
            passes=recipe.accumulate,
            rank=rank,
            processes=processes,
        )
        order = TestKeys(len(self.test), seed=self.test_seed, rank=rank, processes=processes)
        return (
            self._loader(self.train, keys, images),
            self._loader(self.test, order, max(images, TEST_BATCH)),
        )

    def test_batches(self, batch_size: int) -> Loader:
        """All test images once, in order, with their labels."""
        return self._loader(self.test, TestKeys(len(self.test), seed=self.test_seed), batch_size)

    def test_images(self, indices: Sequence[int]) -> torch.Tensor:
        """Test images as a network sees them, `(N, 3, S, S)`."""
        keys: Any = [(self.test_seed, 0, index) for index in indices]
        if isinstance(self.test, ClutteredDigits):
            return self.test.__getitems__(keys)[0]
        return torch.stack([cast(Any, self.test)[key][0] for key in keys])

    def _loader(self, images: Images, keys: TrainKeys | TestKeys, batch_size: int) -> Loader:
        made_whole = isinstance(images, ClutteredDigits)  # draws a batch at once, faster
        return DataLoader(
            cast(Dataset[Any], images),  # keyed by Key, which DataLoader passes through
            batch_size=batch_size,
            sampler=keys,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=_as_it_is if made_whole else None,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own: by the global one, an epoch that is taken up again in the
            # middle would begin with another random state.
            generator=torch.Generator(),
            worker_init_fn=leave_stopping_to_parent,
        )


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
    return _open_folder(spec) if isinstance(spec, FolderData) else _open_named(spec)


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
    limits = {"train": spec.train, "test": spec.test}
    classes, files = find_splits(Path(spec.root), limits, spec.seed)
    for split, found in files.items():
        check_files(f"{split} in {spec.root!r}", [path for path, _ in found], spec.check)
    train = FolderPictures(files["train"], spec, training=True)
    return _of_pictures(classes, train, FolderPictures(files["test"], spec), spec)


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
    classes: list[str], train: Pictures, test: Pictures, spec: PictureOptions
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
    )


def _as_it_is(batch: Any) -> Any:
    return batch
