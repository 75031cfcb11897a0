"""Images from a folder: `train/<class>/*.jpg` and `test/<class>/*.jpg`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torchvision.datasets import ImageFolder

from attnzoo.checks import did_you_mean
from attnzoo.errors import DataError
from attnzoo.train.pictures import PictureOptions, Pictures, evenly
from attnzoo.train.reading import open_picture

__all__ = ["FolderPictures", "find_splits"]


class FolderPictures(Pictures):
    """One split of a folder of images.

    Args:
        files: paths and class indices, as torchvision's `ImageFolder` finds them.
        options: how they are prepared.
        training: whether to draw crops and the like.
    """

    def __init__(
        self, files: Sequence[tuple[str, int]], options: PictureOptions, *, training: bool = False
    ) -> None:
        self.files = list(files)
        self.channels = options.channels
        super().__init__(self._read, [label for _, label in files], options, training=training)

    def path(self, index: int) -> str | None:
        return self.files[index][0]

    def _read(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.files[index]
        return open_picture(path, self.channels), label


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
    files = {}
    for split, folder in splits.items():
        chosen = evenly(folder.targets, limits[split], seed)
        files[split] = [folder.samples[index] for index in chosen]
    return classes, files


def _image_folder(folder: Path) -> ImageFolder:
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:  # no classes, or a class without an image
        raise DataError(f"{folder}: {error}") from error
