"""The rows of a sweep: one file of comma-separated values, written whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import timm
import torchvision

from attnzoo.errors import DataError
from attnzoo.files import written_whole

__all__ = ["Row", "Tally", "check_writable", "read_rows", "summary", "version_of", "write_rows"]

_VERSIONS = {"timm": timm.__version__, "torchvision": torchvision.__version__.partition("+")[0]}


@dataclass(frozen=True)
class Row:
    """One policy on one network.

    Attributes:
        model: the network, as `create_backbone` takes it.
        family: the file of the library that defines it.
        kind: `cnn`, `hybrid` (with attention of its own) or `other` (not swept).
        policy: what was asked; empty for a network that is not swept.
        chosen: the policies that `auto` chose.
        sites: places found; `skipped`: places that could not be used.
        channels: of the maps there, least and most.
        mechanisms: how attention got there, with counts.
        result: `ok`, `no places`, `refused` (an error before or after which the network is as
            it was), `broken` (a promise did not hold), `not followed`, `not convolutional`.
        reason: the error, or what was left out.
        device: `cpu`: run for real; `meta`: too large, shapes and gradients' presence only.
        build_seconds, wrap_seconds: to build the network, and to plan and wrap it.
        version: of the library.
    """

    model: str
    family: str
    kind: str
    policy: str
    chosen: str = ""
    sites: int = 0
    skipped: int = 0
    channels: str = ""
    mechanisms: str = ""
    result: str = ""
    reason: str = ""
    device: str = ""
    build_seconds: float = 0.0
    wrap_seconds: float = 0.0
    version: str = ""

    @property
    def library(self) -> str:
        """`torchvision` or `timm`."""
        return self.model.partition("/")[0]


def version_of(model: str) -> str:
    """The installed version of the library that has `model`."""
    return _VERSIONS.get(model.partition("/")[0], "")


def read_rows(path: Path) -> list[Row]:
    """The rows in a file; none if there is no file.

    Raises:
        DataError: the file is not a sweep's.
    """
    try:
        if not path.exists():
            return []
    except (OSError, ValueError) as error:  # a name that no system takes
        raise DataError(f"{str(path)!r} cannot be read: {error}.") from error
    if not path.is_file():
        raise DataError(f"{path} is no file. Name one.")
    numbers: dict[str, Any] = {
        "sites": int,
        "skipped": int,
        "build_seconds": float,
        "wrap_seconds": float,
    }
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != [field.name for field in fields(Row)]:
            raise DataError(
                f"{path} is not a sweep's table: its columns are {reader.fieldnames}. "
                f"Name another file, or remove this one."
            )
        try:
            lines = [{n: numbers.get(n, str)(text) for n, text in line.items()} for line in reader]
            return [Row(**line) for line in lines]
        except (ValueError, TypeError, csv.Error) as error:
            raise DataError(f"{path} is damaged: {error}. Name another file.") from error


def check_writable(path: Path) -> None:
    """See that a table can be written, before an hour's work is done for it.

    Raises:
        DataError: it cannot.
    """
    half = path.with_name(f".{path.name}.half")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.touch()
        half.unlink()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written: {error}.") from error


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write all rows, in order of model and policy, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as half, half.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted(rows, key=lambda r: (r.model, r.policy)))


@dataclass
class Tally:
    """How one policy did on the networks of one kind.

    Attributes:
        networks: all of them.
        with_places: those in which the policy names a place.
        ok: those of them on which everything held.
    """

    networks: int = 0
    with_places: int = 0
    ok: int = 0


def summary(rows: Iterable[Row]) -> dict[tuple[str, str, str], Tally]:
    """Per policy, library and kind of network, in the policies' order in `rows`."""
    tallies: dict[tuple[str, str, str], Tally] = {}
    for row in rows:
        if row.policy:
            tally = tallies.setdefault((row.policy, row.library, row.kind), Tally())
            tally.networks += 1
            tally.with_places += row.result != "no places"
            tally.ok += row.result == "ok"
    return tallies
