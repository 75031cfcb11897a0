"""What a network is trained and tested on, whatever it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from attnzoo.errors import DataError, OptionError
from attnzoo.train.describing import Task
from attnzoo.train.digits import ClutteredDigits
from attnzoo.train.keys import TestKeys, TrainKeys
from attnzoo.train.recipe import TrainRecipe
from attnzoo.train.stopping import leave_stopping_to_parent

__all__ = [
    "ImageData",
    "Sample",
    "uneven_classes",
]

Loader = DataLoader[tuple[torch.Tensor, torch.Tensor]]
UNEVEN = 1.5  # times as many images of one class as of another
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
        pool: all images, where train and test are drawn from them anew for each run.
        places: of the test images in the pool.
        task: what a network is asked for; all but `"classes"` have rows of numbers as targets.
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
    pool: Images | None = None
    places: Sequence[int] | None = None
    task: Task = "classes"

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
            labels=self._labels(recipe),
        )
        order = TestKeys(len(self.test), seed=self.test_seed, rank=rank, processes=processes)
        return (
            self._loader(self.train, keys, images),
            self._loader(self.test, order, max(images, TEST_BATCH)),
        )

    def _labels(self, recipe: TrainRecipe) -> Sequence[int] | None:
        """Of the training images, where they are to be drawn by them."""
        if recipe.sampler is None:
            return None
        if self.drawn:
            raise OptionError(
                "sampler='balanced': these images are made anew for each epoch, in equal shares "
                "already. Leave it out."
            )
        return cast(Any, self.train).labels

    @property
    def counts(self) -> dict[str, list[int]] | None:
        """Split → images of each class; None where the images are drawn."""
        if self.drawn or self.task != "classes":
            return None
        splits = {"train": self.train, "test": self.test, "validation": self.validation}
        return {
            name: np.bincount(cast(Any, split).labels, minlength=len(self.classes)).tolist()
            for name, split in splits.items()
            if split is not None
        }

    @property
    def test_places(self) -> np.ndarray:
        """`(N,)`: which image each test image is, among them, or among all there are to draw."""
        return np.arange(len(self.test)) if self.places is None else np.asarray(self.places)

    def picture(self, place: int) -> np.ndarray:
        """An image for people, `(S, S, 3)` uint8, by its number in `test_places`."""
        if isinstance(self.test, ClutteredDigits):
            grey = (self.test.draw([place]).images[0] * 255).round().astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return cast(Any, self.test if self.pool is None else self.pool).picture(place)

    @property
    def chance(self) -> float:
        """Top-1 on the test images of always guessing their largest class."""
        counts = self.counts
        if counts is None:
            return 1 / len(self.classes)
        return max(counts["test"]) / sum(counts["test"])

    def validation_loader(
        self, batch_size: int, rank: int = 0, processes: int = 1
    ) -> Loader | None:
        """Batches of the validation images, by `TestKeys`; None where there are none."""
        if self.validation is None:
            return None
        order = TestKeys(len(self.validation), rank=rank, processes=processes)
        return self._loader(self.validation, order, batch_size)

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


def uneven_classes(data: ImageData) -> str:
    """What there is to say of classes of unequal size; "" where they are about equal."""
    counts = data.counts
    if counts is None or max(counts["train"]) < UNEVEN * max(1, min(counts["train"])):
        return ""
    train, test = counts["train"], counts["test"]
    most, least = (train.index(end(train)) for end in (max, min))
    guess = test.index(max(test))
    return (
        f"classes are unequal: {train[most]} training images of {data.classes[most]}, "
        f"{train[least]} of {data.classes[least]}. Always guessing {data.classes[guess]} is right "
        f"for {100 * data.chance:.1f}% of the test images; look at the balanced accuracy, and "
        f"consider class_weights: balanced."
    )


def _as_it_is(batch: Any) -> Any:
    return batch
