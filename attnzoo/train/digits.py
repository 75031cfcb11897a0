"""Cluttered digits: a real handwritten digit among fragments of others, its box known.

The classic benchmark for visual attention (Mnih, Heess, Graves & Kavukcuoglu 2014,
arXiv:1406.6247, "cluttered translated MNIST"), made from scikit-learn's 1,797 handwritten digits
(8×8, from NIST), so that nothing is downloaded. Every image is a pure function of its key: the
same key gives the same image in any process, in any batch and in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from attnzoo.checks import check_choice, check_int, check_number
from attnzoo.errors import OptionError
from attnzoo.train.extras import require
from attnzoo.train.keys import Key

__all__ = ["ClutteredDigits", "DigitBatch"]

SOURCE = 8  # pixels: the side of a source digit
INK = 0.2  # a pixel of the enlarged digit belongs to its box above this brightness
TEST_SHARE = 0.25  # of the source digits, per class
MEAN, STD = 0.17, 0.30  # brightness of the default canvas, for normalising


@dataclass(frozen=True)
class DigitBatch:
    """Some cluttered digits.

    Attributes:
        images: `(N, S, S)` float32, brightness from 0 to 1.
        labels: `(N,)` int64, 0 to 9.
        boxes: `(N, 4)` int64: left, top, right, bottom of the digit's ink in pixels, half open.
        sources: `(N,)` int64: which of scikit-learn's digits each is.
        fragment_sources: `(N, clutter)` int64: which digits the fragments come from.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    sources: np.ndarray
    fragment_sources: np.ndarray


class ClutteredDigits:
    """One split of the cluttered digits, as a map from keys to images.

    A source digit belongs to one split only, fragments included, so nothing seen in training
    appears in a test image.

    Args:
        split: `"train"` or `"test"`.
        size: side of the canvas in pixels.
        length: how many images an epoch holds.
        clutter: fragments per image.
        digit: smallest and largest side of the digit, as a share of the canvas.
        seed: chooses among test sets (training keys carry their run's own seed).

    Raises:
        OptionError: an option of the wrong type or out of range.

    Example:
        >>> from attnzoo.train import ClutteredDigits
        >>> batch = ClutteredDigits("test", size=64).draw(range(4))
        >>> batch.images.shape, batch.boxes.shape
        ((4, 64, 64), (4, 4))
    """

    def __init__(
        self,
        split: Literal["train", "test"] = "train",
        *,
        size: int = 64,
        length: int = 1000,
        clutter: int = 6,
        digit: tuple[float, float] = (0.45, 0.6),
        seed: int = 0,
    ) -> None:
        owner = "cluttered digits"
        self.split: str = check_choice(owner, "split", split, ["train", "test"])
        self.size = check_int(owner, "size", size, minimum=2 * SOURCE)
        self.length = check_int(owner, "length", length, minimum=1)
        self.clutter = check_int(owner, "clutter", clutter, minimum=0)
        low, high = (check_number(owner, "digit", share, minimum=0.1, maximum=1) for share in digit)
        if low > high:
            raise OptionError(f"{owner}: digit={digit!r} must rise: (smallest, largest) share.")
        self.digit = (low, high)
        self.seed = check_int(owner, "seed", seed, minimum=0)
        self.classes = [str(number) for number in range(10)]
        self._digits, self._labels = _source_digits()
        self._pool = _split_sources()[split]

    def __len__(self) -> int:
        return self.length

    def draw(self, keys: Sequence[Key] | Sequence[int] | range) -> DigitBatch:
        """The images of `keys`; a bare index stands for `(self.seed, 0, index)`."""
        full = [key if isinstance(key, tuple) else (self.seed, 0, key) for key in keys]
        uniform = np.stack([self._uniform(key) for key in full])
        count, pool = len(full), self._pool

        sources = pool[(uniform[:, 0] * len(pool)).astype(int)]
        low, high = self.digit
        side = (low + (high - low) * uniform[:, 1]) * self.size
        corner = uniform[:, 2:4] * (self.size - side[:, None])
        target = self._place(self._digits[sources], corner, side / SOURCE)
        images = target.copy()

        # Five numbers a fragment: its source, where it is cut out, where it is put.
        draws = uniform[:, 4:].reshape(count, self.clutter, 5)
        # Anything in the pool but the target itself.
        step = 1 + (draws[..., 0] * (len(pool) - 1)).astype(int)
        own = np.searchsorted(pool, sources)[:, None]
        fragment_sources = pool[(own + step) % len(pool)]
        if self.clutter:
            cut = (1 + draws[..., 1:3] * 4).astype(int)  # 1 to 4: clear of the empty margin
            pieces = _cut(self._digits[fragment_sources], cut, SOURCE // 2 - 1)
            cell = np.repeat(side / SOURCE, self.clutter)
            room = self.size - cell[:, None] * pieces.shape[-1]
            where = draws[..., 3:5].reshape(-1, 2) * room
            placed = self._place(pieces.reshape(-1, *pieces.shape[-2:]), where, cell)
            clutter = placed.reshape(count, self.clutter, self.size, self.size).max(axis=1)
            np.maximum(images, clutter, out=images)
        return DigitBatch(images, self._labels[sources], _boxes(target), sources, fragment_sources)

    def __getitems__(self, keys: Sequence[Key]) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images `(N, 3, S, S)` and labels `(N,)`: what a `DataLoader` asks for."""
        batch = self.draw(keys)
        images = torch.from_numpy((batch.images - MEAN) / STD).float()
        return images[:, None].repeat(1, 3, 1, 1), torch.from_numpy(batch.labels)

    def _uniform(self, key: Key) -> np.ndarray:
        # One generator a key: what an image looks like cannot depend on its batch or its worker.
        split = 0 if self.split == "train" else 1
        return np.random.default_rng([split, *key]).random(4 + 5 * self.clutter)

    def _place(self, patches: np.ndarray, corner: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Bilinear enlargement of `(N, p, p)` patches onto empty `(N, S, S)` canvases.

        `corner` is (left, top) in pixels, `cell` the pixels that one source pixel covers.
        Bilinear sampling is separable, so it is two small matrix products per patch.
        """
        columns = self._tents(corner[:, 0], cell, patches.shape[-1])
        rows = self._tents(corner[:, 1], cell, patches.shape[-1])
        return rows @ patches @ columns.transpose(0, 2, 1)

    def _tents(self, start: np.ndarray, cell: np.ndarray, cells: int) -> np.ndarray:
        pixels = np.arange(self.size, dtype=np.float32) + 0.5
        place = (pixels[None, :] - start[:, None]) / cell[:, None]
        distance = np.abs(place[:, :, None] - (np.arange(cells) + 0.5))
        return np.clip(1 - distance, 0, None).astype(np.float32)


def _cut(digits: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """Windows of `side` pixels out of `(N, K, 8, 8)` digits at `(N, K, 2)` corners."""
    offsets = np.arange(side)
    rows = (corner[..., 0, None] + offsets)[..., :, None]
    columns = (corner[..., 1, None] + offsets)[..., None, :]
    count, pieces = digits.shape[:2]
    first, second = np.ogrid[:count, :pieces]
    return digits[first[..., None, None], second[..., None, None], rows, columns]


def _boxes(target: np.ndarray) -> np.ndarray:
    ink = target > INK
    columns, rows = np.any(ink, axis=1), np.any(ink, axis=2)
    size = target.shape[-1]
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right = size - columns[:, ::-1].argmax(axis=1)
    bottom = size - rows[:, ::-1].argmax(axis=1)
    return np.stack([left, top, right, bottom], axis=1)


@functools.cache
def _source_digits() -> tuple[np.ndarray, np.ndarray]:
    datasets = require("sklearn.datasets", "scikit-learn")
    bunch = datasets.load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)


@functools.cache
def _split_sources() -> dict[str, np.ndarray]:
    """Split → source digits, sorted; the same for every seed, so that none is ever in both."""
    selection = require("sklearn.model_selection", "scikit-learn")
    labels = _source_digits()[1]
    train, test = selection.train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=0
    )
    return {"train": np.sort(train), "test": np.sort(test)}
