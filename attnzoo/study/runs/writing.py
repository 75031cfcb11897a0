"""Writing a file so that it is there whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import suppress
from pathlib import Path

from attnzoo.errors import StudyError
from attnzoo.train import put_aside

__all__ = ["remove_leftovers", "write_atomically"]

STALE = 600  # seconds: nobody writes one file for so long
LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{8}\.partial")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never half.

    It is on the disk before it takes the name, so that a power cut leaves one of the two as well.
    Several processes may write the same file at once: the last one's content stays. A folder by
    its name is renamed and kept.

    Raises:
        StudyError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            file.write(
                content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
            )
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir():
            put_aside(path)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StudyError(f"{path} cannot be written: {error}.") from error


def remove_leftovers(folder: Path, names: set[str]) -> None:
    """Remove what `write_atomically` left in a folder where it was killed while writing `names`."""
    for left in folder.glob(".*.partial"):
        match = LEFTOVER.fullmatch(left.name)
        if match is None or match[1] not in names:
            continue
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
