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

__all__ = ["FolderPictures", "find_all", "find_splits"]

ALIASES = ("val", "validation", "valid")
"""What a folder of test images is called where there is no `test`."""


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
    root: str | Path,
    limits: dict[str, int | None],
    seed: int = 0,
    names: dict[str, str | None] | None = None,
) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
    """The classes of a folder, and the images of its splits `train` and `test`.

    Args:
        root: the folder.
        limits: split → at most how many images, spread evenly over the classes; None is all.
        seed: chooses which.
        names: split → the folder that it is in, where that has another name. Without one for
            `test`, `val` is tested on where there is no `test`.

    Raises:
        DataError: no such folder, no split, an empty class, or classes that differ.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"data folder {str(root)!r} does not exist.")
    places = {split: (names or {}).get(split) or split for split in limits}
    if not (names or {}).get("test") and not (root / "test").is_dir():
        places["test"] = next((name for name in ALIASES if (root / name).is_dir()), "test")
    missing = [place for place in places.values() if not (root / place).is_dir()]
    if missing:
        found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        hints = "".join(did_you_mean(split, found) for split in missing)
        raise DataError(
            f"data folder {str(root)!r} has no {' and no '.join(map(repr, missing))}.{hints} "
            f"It needs train/<class>/… and test/<class>/… (or val/; another one by test_split); "
            f"it holds: {', '.join(found) or 'nothing'}."
        )
    splits = {split: _image_folder(root / place) for split, place in places.items()}
    classes = splits["train"].classes
    for split, place in places.items():
        extra = sorted(set(splits[split].classes) - set(classes))
        lacking = sorted(set(classes) - set(splits[split].classes))
        if extra or lacking:
            faults = [f"only in {place}: {', '.join(extra)}"] * bool(extra)
            faults += [f"only in train: {', '.join(lacking)}"] * bool(lacking)
            raise DataError(
                f"data folder {str(root)!r}: train and {place} must have the same classes; "
                f"{'; '.join(faults)}."
            )
    if len(classes) < 2:
        raise DataError(f"data folder {str(root)!r} has one class, {classes[0]!r}; two are needed.")
    files = {}
    for split, folder in splits.items():
        chosen = evenly(folder.targets, limits.get(split), seed)
        files[split] = [folder.samples[index] for index in chosen]
    return classes, files


def find_all(root: str | Path) -> tuple[list[str], list[tuple[str, int]]]:
    """The classes of a folder, and its images whatever split they are in, in order.

    Raises:
        DataError: no such folder, or splits whose classes differ.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"data folder {str(root)!r} does not exist.")
    splits = [root / name for name in ("train", "test", *ALIASES) if (root / name).is_dir()]
    found = [_image_folder(folder) for folder in splits or [root]]
    classes = found[0].classes
    for folder, images in zip(splits, found, strict=False):
        if images.classes != classes:
            raise DataError(
                f"data folder {str(root)!r}: train and {folder.name} differ in classes."
            )
    if len(classes) < 2:
        raise DataError(f"data folder {str(root)!r} has one class, {classes[0]!r}; two are needed.")
    return classes, [entry for images in found for entry in images.samples]


def _image_folder(folder: Path) -> ImageFolder:
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:  # no classes, or a class without an image
        raise DataError(f"{folder}: {error}") from error
