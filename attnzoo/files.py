"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from attnzoo.errors import OptionError

__all__ = ["check_kind", "written_whole"]


def check_kind(path: Path, *suffixes: str) -> None:
    """Refuse to write over a file whose name says that it is of another kind.

    Raises:
        OptionError: it is there, and its name ends in none of the suffixes.
    """
    if path.exists() and path.suffix.lower() not in suffixes:
        raise OptionError(
            f"{path} is there, and no file that ends in {' or '.join(suffixes)}; nothing is "
            f"written over it. Name another file, or remove it first."
        )


@contextmanager
def written_whole(path: Path) -> Generator[Path]:
    """A path beside `path` to write to, which takes its name at the end.

    Where an error comes instead, a full disk say, it is removed, and what was there stays.

    Raises:
        OSError: the system refuses.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch has words of its own for a full disk
            raise error.__context__ from None
        raise
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
