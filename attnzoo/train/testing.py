"""Testing a network: what is measured on all images of a split, and what it answered on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.train.predictions import Predictions

__all__ = ["predictions", "summed", "tested"]

TOP = 5  # classes that a right answer may be among, beside the first


@torch.no_grad()
def tested(
    model: nn.Module,
    loader: Any,
    fabric: Any,
    split: str,
    classes: int,
    check: Callable[[], None],
) -> tuple[dict[str, float | None], Tensor]:
    """What is measured over all processes, and what this one's images were answered with.

    Args:
        model: what is tested; all processes take part.
        loader: batches of images and labels by `TestKeys`.
        fabric: from `devices.launch`.
        split: what its measures are called by.
        classes: how many there are.
        check: called after every batch; may raise.

    Returns:
        Mean cross-entropy, top-1, of more than five classes top-5, and balanced accuracy; and
        `(4, N)`: label, answer, log-probability of the label, probability of the answer.
    """
    model.eval()
    left = loader.sampler.real
    sums = torch.zeros(4, dtype=torch.float64)
    by_class = torch.zeros(2, classes, dtype=torch.float64)  # right, all
    answers = []
    for batch in loader:
        images, labels = fabric.to_device(batch)
        with fabric.autocast():
            outputs = model(images.contiguous(memory_format=torch.channels_last))
        outputs = outputs.float()
        answers.append(_answers(outputs, labels))
        outputs, labels = outputs[:left], labels[:left]
        left -= len(labels)
        best = outputs.topk(min(TOP, outputs.shape[1])).indices == labels[:, None]
        loss = F.cross_entropy(outputs, labels, reduction="sum")
        batch_sums = (loss, best[:, 0].sum(), best.sum(), torch.tensor(len(labels)))
        sums += torch.tensor([float(part) for part in batch_sums], dtype=torch.float64)
        labels, right = labels.cpu(), best[:, 0].cpu().double()
        by_class[0].index_add_(0, labels, right)
        by_class[1].index_add_(0, labels, torch.ones_like(right))
        check()
    loss, first, among, count = summed(fabric, sums)
    right, there = torch.tensor(summed(fabric, by_class.flatten())).view(2, -1)
    balanced = float((right[there > 0] / there[there > 0]).mean())
    shares: dict[str, float | None] = {
        f"{split}_loss": loss / count,
        f"{split}_top1": first / count,
    }
    shares |= {f"{split}_top5": among / count} if classes > TOP else {}
    return shares | {f"{split}_balanced": balanced}, torch.cat(answers, 1)


def _answers(outputs: Tensor, labels: Tensor) -> Tensor:
    logs = outputs.log_softmax(1)
    best, called = logs.max(1)
    told = logs.gather(1, labels[:, None])[:, 0]
    return torch.stack([labels.double(), called.double(), told.double(), best.exp().double()]).cpu()


def predictions(answers: Tensor, fabric: Any, classes: int, places: np.ndarray) -> Predictions:
    """The answers of all processes, in the order of the images.

    Args:
        answers: of this process, as `tested` returns them.
        fabric: from `devices.launch`.
        classes: how many there are.
        places: of the images, as `ImageData.test_places` has them.
    """
    if fabric.world_size > 1:
        # All processes have equally many, of which the last ones may be there to fill up.
        shared = fabric.all_gather(answers.to(fabric.device)).cpu()
        answers = shared.permute(1, 2, 0).flatten(1)  # they take images in turns
    labels, predicted, log_probability, confidence = answers[:, : len(places)].numpy()
    return Predictions(
        classes,
        places,
        labels.astype(np.int64),
        predicted.astype(np.int64),
        log_probability,
        confidence,
    )


def summed(fabric: Any, sums: Tensor) -> list[float]:
    """Numbers over all processes."""
    if fabric.world_size > 1:
        sums = fabric.all_reduce(sums.to(fabric.device), reduce_op="sum")
    return sums.tolist()
