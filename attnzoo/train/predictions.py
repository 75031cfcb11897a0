"""What a trained network says of every test image, kept so that any measure can be taken of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["PREDICTIONS", "Predictions", "read_predictions", "save_predictions"]

PREDICTIONS = "predictions.npz"
ARRAYS = ("images", "labels", "predicted", "log_probability", "confidence")


@dataclass(frozen=True)
class Predictions:
    """A network's answers on test images, one element an image.

    Attributes:
        classes: how many there are.
        images: `(N,)` place of each among the test images, or among all images where test images
            are drawn from them anew; with a run's digest of its data it tells which image it is.
        labels: `(N,)` its class.
        predicted: `(N,)` the class that the network finds most likely.
        log_probability: `(N,)` natural logarithm of the probability that it gives to the class
            that is right.
        confidence: `(N,)` the probability that it gives to the class that it predicts.
    """

    classes: int
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    log_probability: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """`(N,)` whether it is right."""
        return self.predicted == self.labels


def save_predictions(found: Predictions, path: str | Path) -> None:
    """Write them; some six bytes an image."""
    whole = np.uint16 if found.classes <= 2**16 else np.int32
    np.savez_compressed(
        path,
        classes=np.int64(found.classes),
        # Places are mostly 0, 1, 2 …: their steps take no room.
        images=np.diff(found.images, prepend=0).astype(np.int32),
        labels=found.labels.astype(whole),
        predicted=found.predicted.astype(whole),
        log_probability=found.log_probability.astype(np.float32),
        confidence=found.confidence.astype(np.float32),
    )


def read_predictions(path: str | Path) -> Predictions | None:
    """What a run left, or None where there is none: it diverged, or is of before there were such.

    Raises:
        ValueError: the file is damaged.

    Example:
        >>> from attnzoo.train import read_predictions
        >>> read_predictions("runs/quickstart/runs/none/predictions.npz") is None
        True
    """
    if not Path(path).is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
            classes = int(file["classes"])
    except Exception as error:  # zip files and arrays raise whatever they come upon
        raise ValueError(f"{path} is damaged: {error}") from error
    arrays["images"] = arrays["images"].cumsum()
    whole = {name: arrays[name].astype(np.int64) for name in ARRAYS[:3]}
    found = Predictions(
        classes, **whole, **{name: arrays[name].astype(np.float64) for name in ARRAYS[3:]}
    )
    ends = [end for name in ARRAYS[1:3] for end in (whole[name].min(), whole[name].max())]
    if len({a.shape for a in arrays.values()}) > 1 or min(ends) < 0 or max(ends) >= classes:
        raise ValueError(f"{path} is damaged: its arrays do not belong together")
    return found
