"""Pictures named by a table: a CSV file of paths and labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from attnzoo.checks import did_you_mean
from attnzoo.errors import DataError
from attnzoo.train.extras import require

__all__ = ["check_pictures", "draw_share", "read_all", "read_rows", "read_table", "splits_of"]

NEEDED, KNOWN = ("path", "label"), ("path", "label", "split", "group")
SPLITS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}

Files = dict[str, list[tuple[str, int]]]


def read_table(path: str | Path, test_share: float, seed: int) -> tuple[list[str], Files]:
    """The classes in a table, and the pictures of its splits.

    Args:
        path: a CSV file with the columns `path` (relative to the file) and `label`; `split`
            (`train`, `val`, `test`) and `group` where there are such.
        test_share: share of the pictures to test on, where there is no column `split`; drawn so
            that classes keep their shares, and pictures of one group stay together.
        seed: of that draw.

    Raises:
        DataError: the file cannot be read, a column, a split or a picture is missing, or a label is
            empty.
    """
    owner, path, columns, rows = read_rows(path)
    classes = sorted({row["label"] for row in rows})
    labels = [classes.index(row["label"]) for row in rows]
    splits = splits_of(owner, rows, columns, labels, test_share, seed)
    files: Files = {}
    for row, label, split in zip(rows, labels, splits, strict=True):
        files.setdefault(split, []).append((str(path.parent / row["path"]), label))
    for split in ("train", "test"):
        there = {label for _, label in files.get(split, [])}
        gone = [name for index, name in enumerate(classes) if index not in there]
        if gone:
            raise DataError(f"{owner} has no picture to {split} on of: {', '.join(gone[:10])}.")
    if len(classes) < 2:
        raise DataError(f"{owner} has one class, {classes[0]!r}; two are needed.")
    check_pictures(owner, path, rows)
    return classes, files


def read_all(path: str | Path) -> tuple[list[str], list[tuple[str, int]], list[str] | None]:
    """The classes in a table, all its pictures, and their groups where there is such a column.

    Raises:
        DataError: as `read_table`; or the table has splits of its own.
    """
    owner, path, columns, rows = read_rows(path)
    if "split" in columns:
        raise DataError(f"{owner} has a column split; it does not go with split: by seed.")
    classes = sorted({row["label"] for row in rows})
    if len(classes) < 2:
        raise DataError(f"{owner} has one class, {classes[0]!r}; two are needed.")
    check_pictures(owner, path, rows)
    files = [(str(path.parent / row["path"]), classes.index(row["label"])) for row in rows]
    return classes, files, [row["group"] for row in rows] if "group" in columns else None


def read_rows(
    path: str | Path, *, empty: bool = False
) -> tuple[str, Path, list[str], list[dict[str, str]]]:
    """What errors call a table, its path, its columns and its rows, which have all it takes.

    Args:
        path: the CSV file.
        empty: whether a label may be.

    Raises:
        DataError: as `read_table`.
    """
    path = Path(path).expanduser()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except OSError as error:
        raise DataError(f"table {str(path)!r} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"table {str(path)!r} is no CSV file: {error}.") from error
    owner = f"table {str(path)!r}"
    lacking = [name for name in NEEDED if name not in columns]
    if lacking:
        hints = "".join(did_you_mean(name, columns) for name in lacking)
        raise DataError(
            f"{owner} has no column {' and no column '.join(map(repr, lacking))}.{hints} It needs "
            f"path and label, and may have split and group; it has: {', '.join(columns)}."
        )
    without = [
        n for n, row in enumerate(rows, start=2) if not (row["path"] and (row["label"] or empty))
    ]
    if without or not rows:
        where = f"line {without[0]} has no path or no label" if without else "it has no rows"
        raise DataError(f"{owner}: {where}.")
    return owner, path, columns, rows


def check_pictures(owner: str, path: Path, rows: Sequence[dict[str, str]]) -> None:
    """That there is a file for each row.

    Raises:
        DataError: one is missing.
    """
    missing = [n for n, row in enumerate(rows, 2) if not (path.parent / row["path"]).is_file()]
    if missing:
        first = rows[missing[0] - 2]["path"]
        raise DataError(
            f"{owner}, line {missing[0]}: there is no file {first!r} in {str(path.parent)!r}. "
            f"{len(missing)} of {len(rows)} pictures are missing; paths are relative to the table."
        )


def splits_of(
    owner: str,
    rows: Sequence[dict[str, str]],
    columns: Sequence[str],
    labels: Sequence[int],
    share: float,
    seed: int,
) -> list[str]:
    """The split of each row: by its column, or drawn."""
    if "split" in columns:
        wrong = [(n, row["split"]) for n, row in enumerate(rows, 2) if row["split"] not in SPLITS]
        if wrong:
            line, name = wrong[0]
            raise DataError(f"{owner}, line {line}: split is {name!r}; write train, val or test.")
        found = [SPLITS[row["split"]] for row in rows]
        if "test" not in found:
            # What is called val is then all there is to test on.
            found = ["test" if split == "validation" else split for split in found]
        return found
    groups = [row["group"] for row in rows] if "group" in columns else None
    drawn = set(draw_share(owner, labels, share, seed, groups))
    return ["test" if index in drawn else "train" for index in range(len(rows))]


def draw_share(
    owner: str,
    labels: Sequence[int],
    share: float,
    seed: int,
    groups: Sequence[str] | None = None,
) -> list[int]:
    """Indices of about such a share, in which each class has its share; in order.

    With groups, all of a group or nothing of it.

    Raises:
        DataError: a class, or the groups, are too few to be shared out.
    """
    selection = require("sklearn.model_selection", "scikit-learn")
    try:
        if groups is None:
            _, drawn = selection.train_test_split(
                range(len(labels)), test_size=share, stratify=labels, random_state=seed
            )
        else:
            folds = selection.StratifiedGroupKFold(
                max(2, round(1 / share)), shuffle=True, random_state=seed
            )
            _, drawn = next(folds.split(labels, labels, groups))
    except ValueError as error:
        raise DataError(f"{owner}: a share of {share:g} cannot be drawn: {error}") from error
    return sorted(int(index) for index in drawn)
