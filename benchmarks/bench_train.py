"""Training throughput of `attnzoo.train` against a loop written by hand in plain PyTorch.

Both train the same network from the same weights on the same images, held in memory, with the
same optimizer. They take turns within one run, ten steps each, so that whatever else the machine
does disturbs both. attnzoo's has the learning-rate schedule, accuracy, records and checkpoints on
top. The figure is attnzoo's images a second over those by hand, in the fastest turn of each, which
is the one that nothing disturbed; 0.98 or more is wanted. The median over pairs of turns stands
beside it, with its quartiles.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import attnzoo
from attnzoo.train import ImageData, TrainRecipe, Watch, fit
from attnzoo.tuning import param_groups

TURNS, WARM_UP = 20, 2
STEPS = 10  # a turn
BATCH, SIZE = 8, 32
STORED = 512  # images; they come again
WANTED = 0.98


class InMemory(Dataset):
    """Random images, of a key or of an index."""

    def __init__(self, count: int) -> None:
        self.images = torch.randn(min(count, STORED), 3, SIZE, SIZE)
        self.labels = torch.randint(10, (count,))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: object) -> tuple[Tensor, Tensor]:
        index = (key[2] if isinstance(key, tuple) else key) % STORED
        return self.images[index], self.labels[index]


def by_hand(model: nn.Module, images: InMemory, recipe: TrainRecipe, device: str) -> Iterator[None]:
    """What everybody writes, a step at a time."""
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(param_groups(model, recipe.lr, recipe.weight_decay))
    pin = torch.cuda.is_available()
    for inputs, labels in DataLoader(images, BATCH, shuffle=True, pin_memory=pin):
        inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            outputs = model(inputs.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(outputs, labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        optimizer.step()
        yield


class Turns(Watch):
    """Ten steps of attnzoo's, then ten by hand, and how long they took."""

    def __init__(self, other: Iterator[None]) -> None:
        self.other = other
        self.steps = 0
        self.seconds: dict[str, list[float]] = {"attnzoo": [], "by hand": []}
        self.began = _time()

    def step(self, loss: float | None = None) -> None:
        self.steps += 1
        if self.steps % STEPS:
            return
        now = _time()
        self.seconds["attnzoo"].append(now - self.began)
        for _ in range(STEPS):
            next(self.other)
        self.began = _time()
        self.seconds["by hand"].append(self.began - now)


def _time() -> float:
    """Seconds, when the accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> int:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    images, test = InMemory((TURNS + WARM_UP) * STEPS * BATCH), InMemory(BATCH)
    data = ImageData([str(i) for i in range(10)], images, test, SIZE, sample=lambda index: index)
    plain = torchvision.models.resnet18(num_classes=10)
    attended = attnzoo.wrap(copy.deepcopy(plain), "in-residual", "se", example=(3, SIZE, SIZE))
    recipe = TrainRecipe(epochs=1, batch_size=BATCH)
    worst = float("inf")
    for name, model in {"resnet18": plain, "resnet18, in-residual × se": attended}.items():
        turns = Turns(by_hand(copy.deepcopy(model), images, recipe, device))
        with tempfile.TemporaryDirectory() as folder:
            fit(model, data, recipe, folder=Path(folder), watch=turns)
        seconds = {kind: found[WARM_UP:] for kind, found in turns.seconds.items()}
        print(f"{name}, {BATCH} × 3 × {SIZE} × {SIZE}, {device}, {torch.get_num_threads()} threads")
        for kind, found in seconds.items():
            print(f"  {kind:8}{STEPS * BATCH / min(found):8.1f} images/s at its fastest")
        ratios = [b / a for a, b in zip(seconds["attnzoo"], seconds["by hand"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        ratio = min(seconds["by hand"]) / min(seconds["attnzoo"])
        worst = min(worst, ratio)
        print(f"  ratio   {ratio:8.3f}  (pairs: {middle:.3f}, {low:.3f} to {high:.3f})")
    print(f"worst ratio {worst:.3f}; wanted: {WANTED} or more")
    return int(worst < WANTED)


if __name__ == "__main__":
    sys.exit(main())
