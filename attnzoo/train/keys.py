"""Keys: which images a run sees, in which order, with which random draws, settled by its seed.

A key `(seed, epoch, index)` names one image of one epoch, its augmentation included. Keys depend
on nothing that happens in the model, so two variants trained with one seed see the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

__all__ = ["Key", "TestKeys", "TrainKeys", "drawing"]

Key = tuple[int, int, int]
"""(seed, epoch, index)."""


class TrainKeys(Sampler[Key]):
    """The keys of one epoch for one of several processes, shuffled by its seed and number.

    All processes together see the batches that a single one would: step after step, pass after
    pass, and within a pass rank after rank.

    Args:
        length: training images.
        seed: of the order, and of the images' draws.
        batch_size: images a step, over all processes and passes.
        passes: forward passes a step.
        rank: which process this is.
        processes: how many there are; with `passes` they divide the batch.
        labels: of the images, where classes are to be drawn equally often.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        batch_size: int = 1,
        passes: int = 1,
        rank: int = 0,
        processes: int = 1,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.length = length
        self.labels = None if labels is None else torch.as_tensor(labels)
        self.seed = seed
        self.batch_size = batch_size
        self.passes = passes
        self.rank = rank
        self.processes = processes
        self.steps = length // batch_size
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Which epoch the next pass over the data is, and how many of its steps are done."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return (self.steps - self.start) * self.batch_size // self.processes

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        count = self.steps * self.batch_size
        if self.labels is None:
            order = torch.randperm(self.length, generator=generator)[:count]
        else:
            order = _balanced(self.labels, count, generator)
        shared = order.view(self.steps, self.passes, self.processes, -1)
        own = shared[self.start :, :, self.rank].flatten()
        return ((self.seed, self.epoch, index) for index in own.tolist())


def _balanced(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many images, as many of each class; none again before all of its class were there."""
    classes = [torch.nonzero(labels == label)[:, 0] for label in labels.unique()]
    share = -(-count // len(classes))
    drawn = []
    for images in classes:
        rounds = -(-share // len(images))
        orders = [torch.randperm(len(images), generator=generator) for _ in range(rounds)]
        drawn.append(images[torch.cat(orders)[:share]])
    # Class after class in turns, so that what is cut off is one of each at most.
    spread = torch.stack(drawn, 1)[:, torch.randperm(len(classes), generator=generator)]
    return spread.flatten()[:count][torch.randperm(count, generator=generator)]


class TestKeys(Sampler[Key]):
    """The keys of a test set, in order, the same in every epoch; each process has its share.

    All processes get equally many, for a sharded model needs all of them in every forward pass:
    what is missing is filled up, and only the first `real` of them count.
    """

    __test__ = False  # no test of pytest's

    def __init__(self, length: int, *, seed: int = 0, rank: int = 0, processes: int = 1) -> None:
        self.seed = seed
        own = range(rank, length, processes)
        self.real = len(own)
        self.indices = [*own, *[0] * (-(-length // processes) - len(own))]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Key]:
        return ((self.seed, 0, index) for index in self.indices)


@contextmanager
def drawing(key: tuple[int, ...]) -> Generator[None]:
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
