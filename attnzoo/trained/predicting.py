"""Pictures in, classes and probabilities out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from attnzoo.checks import check_int
from attnzoo.errors import DataError
from attnzoo.files import check_kind, written_whole
from attnzoo.train import TrainRecipe, launch, open_picture, parse
from attnzoo.trained.opening import TrainedNetwork

__all__ = ["Prediction", "find_pictures", "predict", "write_predictions"]

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a network says of a picture.

    Attributes:
        picture: its path.
        label: the class with the highest probability.
        probabilities: of every class, in the network's order.
    """

    picture: str
    label: str
    probabilities: tuple[float, ...]

    @property
    def probability(self) -> float:
        """Of the label."""
        return max(self.probabilities)


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Pictures among paths; of a folder all in it and below, in order.

    Raises:
        DataError: a path is not there, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                entry for entry in path.rglob("*") if entry.suffix.lower() in IMG_EXTENSIONS
            )
            if not inside:
                raise DataError(f"{path} holds no picture ({', '.join(IMG_EXTENSIONS)}).")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"there is no picture and no folder {str(path)!r}.")
    return found


def predict(
    network: TrainedNetwork,
    pictures: Sequence[str | os.PathLike[str]],
    *,
    batch_size: int = BATCH,
    workers: int = 0,
    device: str = "auto",
) -> Iterator[Prediction]:
    """What a network says of pictures, one after another, prepared as its test images were.

    Args:
        network: from `open_network`.
        pictures: paths of files.
        batch_size: pictures that it sees at once.
        workers: processes that read pictures.
        device: as in `TrainRecipe`.

    Raises:
        DataError: a picture cannot be read; it is named.
        OptionError: an argument is wrong, the device is not here, or the network was not trained on
            pictures.

    Example:
        >>> from attnzoo.trained import open_network, predict
        >>> network = open_network("runs/<run>")  # doctest: +SKIP
        >>> next(predict(network, ["cat.jpg"])).label  # doctest: +SKIP
        'cat'
    """
    check_int("predict", "batch_size", batch_size, minimum=1)
    check_int("predict", "workers", workers, minimum=0)
    options = network.pictures
    images = _Images([os.fspath(path) for path in pictures], network.transform, options.channels)
    names = network.classes
    for start, scores in _scores(network, images, batch_size, workers, device):
        chances = scores.softmax(1)
        for offset, (best, row) in enumerate(
            zip(chances.argmax(1).tolist(), chances.tolist(), strict=True)
        ):
            label = names[best] if names else str(best)
            yield Prediction(images.paths[start + offset], label, tuple(row))


def _scores(
    network: TrainedNetwork, images: _Images, batch_size: int, workers: int, device: str
) -> Iterator[tuple[int, torch.Tensor]]:
    """Index of the first picture of a batch, and the scores of all of it, on the CPU."""
    fabric = launch(parse(TrainRecipe, {"device": device}, "predict"))
    model = network.model.eval().to(fabric.device).to(memory_format=torch.channels_last)
    loader = DataLoader(
        images, batch_size, num_workers=workers, pin_memory=fabric.device.type == "cuda"
    )
    on_cpu = fabric.device.type == "cpu"
    start = 0
    with torch.inference_mode(), nullcontext() if on_cpu else fabric.autocast():
        for batch in loader:
            batch = batch.to(fabric.device, non_blocking=True)
            scores = model(batch.contiguous(memory_format=torch.channels_last))
            yield start, scores.float().cpu()
            start += len(batch)


class _Images(Dataset[torch.Tensor]):
    """Files as images; of a class, for processes that read them may have to copy it."""

    def __init__(self, paths: list[str], transform: Any, channels: int) -> None:
        self.paths = paths
        self.transform = transform
        self.channels = channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        picture: Image.Image = open_picture(self.paths[index], self.channels)
        return self.transform(picture)


def write_predictions(
    predictions: Iterable[Prediction], classes: Sequence[str], path: str | os.PathLike[str]
) -> int:
    """Write a table: picture, label, its probability, and that of every class; how many rows.

    The file is there whole or not at all.

    Raises:
        OptionError: a file that is no table is there.
        DataError: it cannot be written.
    """
    path = Path(path)
    check_kind(path, ".csv")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["picture", "label", "probability", *classes])
    count = 0
    for found in predictions:
        chances = [f"{chance:.6f}" for chance in found.probabilities]
        writer.writerow([found.picture, found.label, f"{found.probability:.6f}", *chances])
        count += 1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text(text.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error
    return count
