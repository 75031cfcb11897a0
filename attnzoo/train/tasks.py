"""What a network is asked for: one class an image, several labels, or numbers.

One class is the rule, and the rest of the room is written for it; here is what differs for others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.errors import OptionError
from attnzoo.train.describing import Task
from attnzoo.train.recipe import TrainRecipe

__all__ = ["check_task", "f1", "loss_of", "mae", "mean_ap", "measured", "r2"]


def check_task(task: Task, recipe: TrainRecipe) -> None:
    """Refuse options that are about classes where there are none.

    Raises:
        OptionError: the recipe has one.
    """
    asked = [name for name in ("mixup", "cutmix", "class_weights", "sampler")
             if getattr(recipe, name)]  # fmt: skip
    if task != "classes" and asked:
        raise OptionError(f"{asked[0]} is about one class an image; leave it out with {task}.")


def loss_of(task: Task, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean loss: binary cross-entropy of each label, or the squared error of each number.

    Args:
        task: `"multilabel"` or `"regression"`.
        outputs: `(N, K)`.
        targets: `(N, K)`: 0 or 1, or numbers.
        smoothing: of labels; numbers have none.
    """
    if task == "regression":
        return F.mse_loss(outputs, targets)
    smoothed = targets * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(outputs, smoothed)


def mean_ap(scores: NDArray, targets: NDArray) -> float:
    """Mean over the labels that some image has of their average precision.

    That is the precision at each image of the label, in the order of the scores, as scikit-learn
    has it.
    """
    found = []
    for score, target in zip(scores.T, targets.T, strict=True):
        if not target.any():
            continue
        order = np.argsort(-score, kind="stable")
        ends = np.r_[np.flatnonzero(np.diff(score[order])), len(score) - 1]  # ties count as one
        right = target[order].cumsum()[ends]
        recall = np.diff(right / target.sum(), prepend=0.0)
        found.append(float((recall * right / (ends + 1)).sum()))
    return float(np.mean(found)) if found else 0.0


def f1(scores: NDArray, targets: NDArray) -> float:
    """Mean over the labels of F1, where a score above 0, of even chance, is a yes."""
    said = scores > 0
    right = (said & (targets > 0.5)).sum(0)
    both = said.sum(0) + targets.sum(0)
    return float(np.where(both > 0, 2 * right / np.where(both > 0, both, 1), 0).mean())


def mae(outputs: NDArray, targets: NDArray) -> float:
    """Mean absolute error."""
    return float(np.abs(outputs - targets).mean())


def r2(outputs: NDArray, targets: NDArray) -> float:
    """Share of the targets' variance that is explained, mean over the numbers."""
    rest = ((outputs - targets) ** 2).sum(0)
    spread = ((targets - targets.mean(0)) ** 2).sum(0)
    return float(np.where(spread > 0, 1 - rest / np.where(spread > 0, spread, 1), 0).mean())


MEASURES: dict[Task, dict[str, Callable[[NDArray, NDArray], float]]] = {
    "multilabel": {"map": mean_ap, "f1": f1},
    "regression": {"mae": mae, "r2": r2},
}


@torch.no_grad()
def measured(
    task: Task,
    model: nn.Module,
    loader: Any,
    fabric: Any,
    split: str,
    check: Callable[[], None],
) -> dict[str, float | None]:
    """What is measured on all images of a split; see `testing.tested` for the arguments."""
    model.eval()
    outputs, targets = [], []
    for batch in loader:
        images, wanted = fabric.to_device(batch)
        with fabric.autocast():
            found = model(images.contiguous(memory_format=torch.channels_last))
        outputs.append(found.float()[:, : wanted.shape[1]])
        targets.append(wanted.float())
        check()
    told, wanted = torch.cat(outputs), torch.cat(targets)
    real = loader.sampler.real
    if fabric.world_size > 1:
        # All processes have equally many, of which the last ones may be there to fill up.
        real = int(fabric.all_reduce(torch.tensor(real, device=fabric.device), reduce_op="sum"))
        told, wanted = (
            fabric.all_gather(part).permute(1, 0, 2).flatten(0, 1) for part in (told, wanted)
        )
    told, wanted = told[:real], wanted[:real]
    loss = float(loss_of(task, told, wanted, 0.0))
    arrays = told.double().cpu().numpy(), wanted.double().cpu().numpy()
    row: dict[str, float | None] = {f"{split}_loss": loss, f"{split}_top1": None}
    return row | {f"{split}_{name}": of(*arrays) for name, of in MEASURES[task].items()}
