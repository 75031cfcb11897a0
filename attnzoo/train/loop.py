"""The training loop: one network, one recipe, on Lightning Fabric."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from attnzoo.attention import Attention
from attnzoo.errors import OptionError
from attnzoo.train.data import ImageData
from attnzoo.train.extras import require
from attnzoo.train.recipe import TrainRecipe
from attnzoo.train.watch import Watch
from attnzoo.tuning import freeze, param_groups

__all__ = ["FitResult", "fit"]

LOOK_EVERY = 10  # steps between two looks at the losses: each look waits for the accelerator


@dataclass
class FitResult:
    """How a training went.

    Attributes:
        status: `"finished"`, or `"diverged"` where the loss stopped being a number.
        message: in the second case, when.
        epochs: one row an epoch: `epoch`, `step`, `lr`, `train_loss`, `train_top1`, `test_loss`,
            `test_top1` (shares, 0 to 1), `gamma` (mean |γ| over the attention; empty without),
            `seconds` since the start.
        seconds: from the first batch to the last evaluation.
        train_seconds: of that, in training steps.
        images_per_second: while training.
    """

    status: Literal["finished", "diverged"] = "finished"
    message: str = ""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    train_seconds: float = 0.0
    images_per_second: float = 0.0


def fit(
    model: nn.Module,
    data: ImageData,
    recipe: TrainRecipe,
    *,
    metrics: str | Path | None = None,
    watch: Watch | None = None,
    name: str = "training",
) -> FitResult:
    """Train a model in place. The global random state is seeded from the recipe.

    Args:
        model: maps `(N, 3, S, S)` to `(N, classes)`. It moves to the recipe's device.
        data: from `open_data`.
        recipe: how.
        metrics: a CSV file to write a line to after every epoch.
        watch: is told about the progress.
        name: what the progress bar calls this run.

    Raises:
        OptionError: the recipe asks for a device or a precision that is not here.
        DataError: the training images do not fill one batch.
        MissingExtraError: Lightning Fabric is not installed.
    """
    watch = watch or Watch()
    fabric = _fabric(recipe)
    if recipe.freeze is not None:
        freeze(model, until=recipe.freeze)
    # Dropout draws the same masks in every variant, whatever building its blocks has drawn.
    fabric.seed_everything(recipe.seed, verbose=False)
    model = model.to(memory_format=torch.channels_last)
    optimizer = _optimizer(model, recipe)
    network, optimizer = fabric.setup(model, optimizer)
    train_loader, test_loader = data.loaders(recipe)
    # The loaders stay outside Fabric, which would number the epochs by its own count.
    sampler: Any = train_loader.sampler
    schedule = _schedule(optimizer, recipe, len(train_loader))

    result = FitResult()
    watch.begin(name, recipe.epochs * len(train_loader))
    began = time.perf_counter()
    for epoch in range(recipe.epochs):
        sampler.set_epoch(epoch)
        epoch_began = time.perf_counter()
        losses, hits = _train_epoch(
            fabric, network, optimizer, schedule, train_loader, recipe, watch
        )
        result.train_seconds += time.perf_counter() - epoch_began
        step = epoch * len(train_loader) + len(losses)
        bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if bad is not None:
            result.status = "diverged"
            result.message = (
                f"the loss was {losses[bad]} at step {step - len(losses) + bad + 1} "
                f"(epoch {epoch + 1}); lower lr={recipe.lr:g} or lengthen the warm-up."
            )
            break
        test_loss, test_top1 = _evaluate(fabric, network, test_loader)
        row = {
            "epoch": epoch + 1,
            "step": step,
            "lr": optimizer.param_groups[0]["lr"],
            "train_loss": sum(losses) / len(losses),
            "train_top1": hits / (len(losses) * recipe.batch_size),
            "test_loss": test_loss,
            "test_top1": test_top1,
            "gamma": _gamma(model),
            "seconds": time.perf_counter() - began,
        }
        result.epochs.append(row)
        if metrics is not None:
            _append(Path(metrics), row)
        watch.epoch(row)
    result.seconds = time.perf_counter() - began
    trained = len(result.epochs) * len(train_loader) * recipe.batch_size
    result.images_per_second = trained / result.train_seconds
    return result


def _fabric(recipe: TrainRecipe) -> Any:
    lightning = require("lightning_fabric", "Lightning Fabric")
    device = recipe.device
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        device = "cpu" if accelerator is None else accelerator.type
        device = device if device in ("cuda", "mps") else "cpu"
    elif device != "cpu" and not getattr(torch, device).is_available():
        raise OptionError(f"device={device!r} is not available here; leave it at 'auto'.")
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and device == "cuda")
    return lightning.Fabric(
        accelerator=device, devices=1, precision="bf16-mixed" if bf16 else "32-true"
    )


def _optimizer(model: nn.Module, recipe: TrainRecipe) -> Optimizer:
    groups = param_groups(
        model, recipe.lr, recipe.weight_decay, attention_lr_scale=recipe.attention_lr_scale
    )
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0
        )
    return torch.optim.AdamW(groups, lr=recipe.lr)


def _schedule(optimizer: Optimizer, recipe: TrainRecipe, steps: int) -> LambdaLR:
    """Linear warm-up, then a cosine to zero, as a factor on each group's own learning rate."""
    total, warmup = recipe.epochs * steps, round(recipe.warmup_epochs * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return LambdaLR(optimizer, factor)


def _train_epoch(
    fabric: Any,
    network: nn.Module,
    optimizer: Optimizer,
    schedule: LambdaLR,
    loader: Any,
    recipe: TrainRecipe,
    watch: Watch,
) -> tuple[list[float], int]:
    """The losses of an epoch's steps, cut off soon after one is no number, and the hits."""
    network.train()
    losses: list[float] = []
    waiting: list[Tensor] = []
    hits: Tensor | int = 0
    for number, batch in enumerate(loader, start=1):
        images, labels = fabric.to_device(batch)
        outputs = network(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(outputs, labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        waiting.append(loss.detach())
        hits = hits + (outputs.detach().argmax(1) == labels).sum()
        if number % LOOK_EVERY and number < len(loader):
            watch.step()
            continue
        losses += torch.stack(waiting).tolist()
        waiting.clear()
        watch.step(losses[-1])
        if not all(map(math.isfinite, losses)):
            break
    return losses, int(hits)


@torch.inference_mode()
def _evaluate(fabric: Any, network: nn.Module, loader: Any) -> tuple[float, float]:
    """Mean cross-entropy and top-1 share over all test images."""
    network.eval()
    loss, hits, count = 0.0, 0, 0
    for batch in loader:
        images, labels = fabric.to_device(batch)
        outputs = network(images.contiguous(memory_format=torch.channels_last)).float()
        loss += F.cross_entropy(outputs, labels, reduction="sum").item()
        hits += int((outputs.argmax(1) == labels).sum())
        count += len(labels)
    return loss / count, hits / count


def _gamma(model: nn.Module) -> float | None:
    """Mean |γ|: how far attention has been let in, 0 at an identity start. None without γ."""
    gammas = [
        module.gamma.detach().abs().mean()
        for module in model.modules()
        if isinstance(module, Attention) and isinstance(module.gamma, Tensor)
    ]
    return float(torch.stack(gammas).mean()) if gammas else None


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
