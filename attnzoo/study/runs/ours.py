"""What attnzoo wrote into a folder: only that is ever replaced or removed there.

A hidden list in the folder has the names. A study's folder that is older than the list is known by
its study, and what was written there by the names that attnzoo gave then.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attnzoo.errors import StudyError
from attnzoo.study.definition import Study
from attnzoo.study.runs.writing import write_atomically
from attnzoo.train import claimed

__all__ = ["FIGURES", "STUDY", "check_folder", "remove", "take", "written"]

STUDY = "study.json"
FIGURES = "figures"
LIST = ".attnzoo.json"
BEFORE = (
    *(STUDY, "data.json", "costs.json"),
    *("results.csv", "comparisons.csv", "report.md", "report.html"),
)
"""What a study's folder had before there was a list, beside the figures that its report names."""

PICTURE = re.compile(rf"!\[[^\]\n]*\]\(({FIGURES}/[\w.-]+)\)")
NAMED = 5


def written(folder: Path) -> set[str]:
    """The names of what attnzoo wrote into a folder, relative to it, with `/`; runs aside."""
    listed = _listed(folder)
    if listed is not None:
        return listed
    if not _is_study(folder):
        return set()
    names = {name for name in BEFORE if (folder / name).is_file()}
    with suppress(OSError, ValueError):
        names |= set(PICTURE.findall((folder / "report.md").read_text(encoding="utf-8")))
    return names


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """See that `names` can be written into a folder without a loss. Nothing is changed.

    A folder of attnzoo's may hold other files beside those; in one that is not, figures of
    somebody else's are in the way too.

    Raises:
        StudyError: the folder is a file, or holds files by these names that attnzoo did not write.
    """
    try:
        if not folder.exists():
            return
    except (OSError, ValueError) as error:  # a name that the system does not take
        raise StudyError(f"{str(folder)!r} is no name for a folder: {error}.") from error
    if not folder.is_dir():
        raise StudyError(f"{str(folder)!r} is a file; a folder is needed. Name another.")
    ours = written(folder)
    foreign = [name for name in names if os.path.lexists(folder / name) and name not in ours]
    if not ours:
        foreign += [f"{FIGURES}/"] if _has_entries(folder / FIGURES) else []
    if foreign:
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        raise StudyError(
            f"{str(folder)!r} holds {', '.join(foreign[:NAMED])}{more}, which attnzoo did not "
            f"write and would write over. Name another folder, or move them out of this one."
        )


def take(folder: Path, names: Iterable[str]) -> None:
    """Put names on the folder's list, before anything is written under them.

    Raises:
        StudyError: see `check_folder`; or the folder cannot be written to.
    """
    names = list(names)
    check_folder(folder, names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with claimed(folder / LIST, wait=True):
            ours = written(folder)
            if not ours.issuperset(names) or _listed(folder) is None:
                _list(folder, ours.union(names))
    except OSError as error:
        raise StudyError(f"{str(folder)!r} cannot be written to: {error}.") from error


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove what attnzoo wrote under these names; others are left alone."""
    with claimed(folder / LIST, wait=True):
        ours = written(folder)
        for name in ours.intersection(names):
            with suppress(OSError):  # gone already, or a folder of somebody's by now
                (folder / name).unlink()
            ours.discard(name)
        _list(folder, ours)


def _list(folder: Path, names: set[str]) -> None:
    write_atomically(folder / LIST, json.dumps({"written": sorted(names)}, indent=0))


def _listed(folder: Path) -> set[str] | None:
    try:
        names = json.loads((folder / LIST).read_text(encoding="utf-8"))["written"]
        return {name for name in names if isinstance(name, str)}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None  # there is none, or it is damaged


def _is_study(folder: Path) -> bool:
    try:
        Study.model_validate_json((folder / STUDY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return True


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False
    except OSError:  # a file, or a folder that cannot be looked into
        return True
