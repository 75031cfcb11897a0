"""Train and test images drawn anew from all there are, for each run as its seed says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnzoo.errors import DataError
from attnzoo.train.describing import FolderData, Redrawn
from attnzoo.train.extras import require
from attnzoo.train.table import draw_share

__all__ = ["drawn_test", "prefixes"]


def drawn_test(
    owner: str, labels: Sequence[int], spec: Redrawn, groups: Sequence[str] | None = None
) -> list[int]:
    """Places of the images to test on, in order; those that are left are trained on.

    Args:
        owner: what errors call the images.
        labels: class of each.
        spec: says how, and which draw.
        groups: what each belongs to, where some belong together.

    Raises:
        DataError: a class, or the groups, are too few, or no image of a class is left to train on.
    """
    draw = spec.draw or 0
    if spec.folds is None:
        chosen = draw_share(owner, labels, spec.test_share, draw, groups)
    else:
        chosen = _fold(owner, labels, spec.folds, draw, groups)
    tested = set(chosen)
    left = {label for place, label in enumerate(labels) if place not in tested}
    if gone := sorted(set(labels) - left):
        raise DataError(f"{owner}, draw {draw}: nothing is left to train on of class {gone[0]}.")
    return chosen


def _fold(
    owner: str, labels: Sequence[int], folds: int, draw: int, groups: Sequence[str] | None
) -> list[int]:
    """Folds after one another belong to one shuffling, and test on each image once."""
    selection = require("sklearn.model_selection", "scikit-learn")
    kind = selection.StratifiedKFold if groups is None else selection.StratifiedGroupKFold
    round_, fold = divmod(draw, folds)
    try:
        splits = list(kind(folds, shuffle=True, random_state=round_).split(labels, labels, groups))
    except ValueError as error:
        raise DataError(f"{owner}: {folds} folds cannot be made: {error}") from error
    return sorted(int(place) for place in splits[fold][1])


def prefixes(files: Sequence[str], spec: FolderData) -> list[str] | None:
    """The group of each file by its name; None where they have none."""
    if spec.group is None:
        return None
    return [Path(file).name.partition(spec.group)[0] for file in files]
