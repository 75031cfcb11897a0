"""Images from a folder: `train/<class>/*.jpg` and `test/<class>/*.jpg`, augmented by timm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.datasets import ImageFolder

from attnzoo.checks import did_you_mean
from attnzoo.errors import DataError
from attnzoo.train.keys import Key, drawing

__all__ = ["FolderImages", "find_splits"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as pretrained weights expect


class FolderImages:
    """One split of a folder of images, as a map from keys to images.

    A training image is a random crop, enlarged to the size, and mirrored at random; a test image
    is the central crop. The draws depend on the key alone.

    Args:
        files: paths and class indices, as torchvision's `ImageFolder` finds them.
        size: side of the images in pixels.
        training: whether to draw crops and mirror.
        crop_scale: smallest and largest share of the area that a training crop keeps.
        hflip: chance of mirroring a training image.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, int]],
        size: int,
        *,
        training: bool = False,
        crop_scale: tuple[float, float] = (0.6, 1.0),
        hflip: float = 0.5,
    ) -> None:
        self.files = list(files)
        self.size = size
        options: dict[str, Any] = {"mean": MEAN, "std": STD, "interpolation": "bilinear"}
        if training:
            options |= {"scale": crop_scale, "hflip": hflip, "color_jitter": None}
        else:
            options |= {"crop_pct": 1.0}
        self.transform = create_transform(size, is_training=training, **options)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        path, label = self.files[key[2]]
        try:
            with Image.open(path) as image:
                pixels = image.convert("RGB")
        except Exception as error:  # decoders raise whatever they come upon
            raise DataError(f"{path}: cannot be read as an image ({error}).") from error
        with drawing(key):
            return self.transform(pixels), label

    def picture(self, index: int) -> np.ndarray:
        """The image as it reaches the network, `(S, S, 3)` uint8."""
        pixels = self[0, 0, index][0] * torch.tensor(STD)[:, None, None]
        pixels = pixels + torch.tensor(MEAN)[:, None, None]
        return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def find_splits(
    root: str | Path, limits: dict[str, int | None], seed: int = 0
) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
    """The classes of a folder, and the images of its splits `train` and `test`.

    Args:
        root: the folder.
        limits: split → at most how many images, spread evenly over the classes; None is all.
        seed: chooses which.

    Raises:
        DataError: no such folder, no split, an empty class, or classes that differ.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"data folder {str(root)!r} does not exist.")
    missing = [split for split in limits if not (root / split).is_dir()]
    if missing:
        found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        hints = "".join(did_you_mean(split, found) for split in missing)
        raise DataError(
            f"data folder {str(root)!r} has no {' and no '.join(map(repr, missing))}.{hints} "
            f"It needs train/<class>/… and test/<class>/…; "
            f"it holds: {', '.join(found) or 'nothing'}."
        )
    splits = {split: _image_folder(root / split) for split in limits}
    classes = splits["train"].classes
    extra = sorted(set(splits["test"].classes) - set(classes))
    lacking = sorted(set(classes) - set(splits["test"].classes))
    if extra or lacking:
        faults = [f"only in test: {', '.join(extra)}"] * bool(extra)
        faults += [f"only in train: {', '.join(lacking)}"] * bool(lacking)
        raise DataError(
            f"data folder {str(root)!r}: train and test must have the same classes; "
            f"{'; '.join(faults)}."
        )
    if len(classes) < 2:
        raise DataError(f"data folder {str(root)!r} has one class, {classes[0]!r}; two are needed.")
    return classes, {
        split: _subset(folder.samples, limits[split], len(classes), seed)
        for split, folder in splits.items()
    }


def _image_folder(folder: Path) -> ImageFolder:
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:  # no classes, or a class without an image
        raise DataError(f"{folder}: {error}") from error


def _subset(
    files: list[tuple[str, int]], limit: int | None, classes: int, seed: int
) -> list[tuple[str, int]]:
    if limit is None or limit >= len(files):
        return files
    shuffled = np.random.default_rng(seed).permutation(len(files))
    seen = np.zeros(classes, dtype=int)
    rank = np.empty(len(files), dtype=int)  # place of a file in its own class's shuffled line
    for index in shuffled:
        label = files[index][1]
        rank[index] = seen[label]
        seen[label] += 1
    chosen = sorted(shuffled, key=lambda index: rank[index])[:limit]
    return [files[index] for index in sorted(chosen)]
