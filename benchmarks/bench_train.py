"""Training throughput of `attnzoo.train` against a loop written by hand in plain PyTorch.

Both train the same network from the same weights on the same images, held in memory, with the
same optimizer, for the same number of steps; they take turns. attnzoo's has the learning-rate
schedule, accuracy, records and checkpoints on top. The figure is the median over rounds of images
a second of attnzoo over those by hand: 0.98 or more is wanted.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import attnzoo
from attnzoo.train import ImageData, TrainRecipe, fit
from attnzoo.tuning import param_groups

ROUNDS = 21
STEPS = 12
BATCH = 16
SIZE = 32
WANTED = 0.98


class InMemory(Dataset):
    """Random images, of a key or of an index."""

    def __init__(self, count: int) -> None:
        self.images = torch.randn(count, 3, SIZE, SIZE)
        self.labels = torch.randint(10, (count,))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: object) -> tuple[Tensor, Tensor]:
        index = key[2] if isinstance(key, tuple) else key
        return self.images[index], self.labels[index]


def by_hand(model: nn.Module, images: InMemory, recipe: TrainRecipe, device: str) -> float:
    """Images a second of what everybody writes."""
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(param_groups(model, recipe.lr, recipe.weight_decay))
    loader = DataLoader(
        images, BATCH, shuffle=True, drop_last=True, pin_memory=torch.cuda.is_available()
    )
    began = time.perf_counter()
    for inputs, labels in loader:
        inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            outputs = model(inputs.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(outputs, labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        optimizer.step()
    loss.item()  # waits for the accelerator
    return STEPS * BATCH / (time.perf_counter() - began)


def by_attnzoo(model: nn.Module, images: InMemory, recipe: TrainRecipe) -> float:
    test = InMemory(BATCH)
    data = ImageData([str(i) for i in range(10)], images, test, SIZE, sample=lambda index: index)
    with tempfile.TemporaryDirectory() as folder:
        return fit(model, data, recipe, folder=Path(folder)).images_per_second


def main() -> int:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    images = InMemory(STEPS * BATCH)
    plain = torchvision.models.resnet18(num_classes=10)
    attended = attnzoo.wrap(copy.deepcopy(plain), "in-residual", "se", example=(3, SIZE, SIZE))
    recipe = TrainRecipe(epochs=1, batch_size=BATCH)
    worst = 1.0
    for name, model in {"resnet18": plain, "resnet18, in-residual × se": attended}.items():
        rates: dict[str, list[float]] = {"by hand": [], "attnzoo": []}
        for number in range(-1, ROUNDS):  # the first round warms up
            kinds = list(rates) if number % 2 else list(rates)[::-1]
            for kind in kinds:
                own = copy.deepcopy(model)
                rate = (
                    by_hand(own, images, recipe, device)
                    if kind == "by hand"
                    else by_attnzoo(own, images, recipe)
                )
                if number >= 0:
                    rates[kind].append(rate)
        ratios = [a / b for a, b in zip(rates["attnzoo"], rates["by hand"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        worst = min(worst, middle)
        print(f"{name}, {BATCH} × 3 × {SIZE} × {SIZE}, {device}, {torch.get_num_threads()} threads")
        for kind, found in rates.items():
            print(f"  {kind:8}{statistics.median(found):8.1f} images/s")
        print(f"  ratio   {middle:8.3f}  ({low:.3f} to {high:.3f})")
    print(f"worst median ratio {worst:.3f}; wanted: {WANTED} or more")
    return int(worst < WANTED)


if __name__ == "__main__":
    sys.exit(main())
