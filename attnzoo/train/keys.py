"""Keys: which images a run sees, in which order, with which random draws, settled by its seed.

A key `(seed, epoch, index)` names one image of one epoch, its augmentation included. Keys depend
on nothing that happens in the model, so two variants trained with one seed see the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Sampler

__all__ = ["Key", "KeySampler", "drawing"]

Key = tuple[int, int, int]
"""(seed, epoch, index)."""


class KeySampler(Sampler[Key]):
    """The keys of one epoch, shuffled by its seed and number, or in order for a test set."""

    def __init__(self, length: int, *, seed: int = 0, shuffle: bool = False) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next pass is; a test set is the same in all of them."""
        self.epoch = epoch if self.shuffle else 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Key]:
        order = torch.arange(self.length)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.length, generator=generator)
        return ((self.seed, self.epoch, index) for index in order.tolist())


@contextmanager
def drawing(key: Key) -> Generator[None]:
    """Random draws inside depend on `key` alone; the global generators are as before afterwards.

    torchvision's transforms draw from torch, timm's from torch, `random` and numpy.
    """
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA too
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])
