"""How good a trained network is on test images: all together, and class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from attnzoo.checks import check_int
from attnzoo.errors import DataError
from attnzoo.train import ImageData, TrainRecipe, launch, parse
from attnzoo.trained.opening import TrainedNetwork

__all__ = ["Evaluation", "evaluate"]

TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """What a network does on test images.

    Attributes:
        classes: names of the classes.
        confusion: `(classes, classes)`: images of the class of a row that were taken for that of
            a column.
        loss: mean cross-entropy.
        top5: share with the right class among the five best; None with five classes or fewer.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    loss: float
    top5: float | None

    @property
    def images(self) -> int:
        """How many were looked at."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of the images that were taken for what they are."""
        return float(np.trace(self.confusion)) / self.images

    @property
    def recall(self) -> list[float | None]:
        """Share of each class's images that were taken for it; None for a class without any."""
        return _shares(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def precision(self) -> list[float | None]:
        """Share of the images taken for a class that are of it; None where there are none."""
        return _shares(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def balanced(self) -> float:
        """Mean recall over the classes that have images: guessing the largest gains nothing."""
        known = [share for share in self.recall if share is not None]
        return sum(known) / len(known)

    @property
    def chance(self) -> float:
        """What always guessing the largest class would come to, as top-1."""
        return float(self.confusion.sum(1).max()) / self.images

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "balanced": self.balanced,
            "chance": self.chance,
            "loss": self.loss,
            "classes": [
                {"class": name, "images": int(images), "recall": recall, "precision": precision}
                for name, images, recall, precision in zip(
                    self.classes,
                    self.confusion.sum(1),
                    self.recall,
                    self.precision,
                    strict=True,
                )
            ],
            "confusion": self.confusion.tolist(),
        }


def evaluate(
    network: TrainedNetwork, data: ImageData, *, batch_size: int = 64, device: str = "auto"
) -> Evaluation:
    """Test a network on the test images of a data set.

    Args:
        network: from `open_network`.
        data: from `open_data`, with the network's `pictures` as options where it is another set
            than that of its run.
        batch_size: images that it sees at once.
        device: as in `TrainRecipe`.

    Raises:
        DataError: the data have other classes than the network.
        OptionError: an argument is wrong, or the device is not here.
    """
    check_int("evaluate", "batch_size", batch_size, minimum=1)
    classes = network.classes or tuple(data.classes)
    if tuple(data.classes) != classes:
        raise DataError(
            f"the network was trained for {len(classes)} classes ({_some(classes)}), the data have "
            f"{len(data.classes)} ({_some(data.classes)}). They must be the same, in their order."
        )
    fabric = launch(parse(TrainRecipe, {"device": device}, "evaluate"))
    model = network.model.eval().to(fabric.device).to(memory_format=torch.channels_last)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    loss, among, count = 0.0, 0, 0
    with torch.inference_mode(), fabric.autocast():
        for images, labels in data.test_batches(batch_size):
            images = images.to(fabric.device).contiguous(memory_format=torch.channels_last)
            scores = model(images).float().cpu()
            loss += float(F.cross_entropy(scores, labels, reduction="sum"))
            best = scores.topk(min(TOP, scores.shape[1])).indices
            among += int((best == labels[:, None]).sum())
            np.add.at(confusion, (labels.numpy(), best[:, 0].numpy()), 1)
            count += len(labels)
    top5 = among / count if len(classes) > TOP else None
    return Evaluation(classes, confusion, loss / count, top5)


def _shares(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    return [float(p) / float(w) if w else None for p, w in zip(part, whole, strict=True)]


def _some(names: Any) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
