"""What is in the way is renamed, never removed: only its owner knows what it was worth."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

__all__ = ["put_aside"]


def put_aside(path: Path) -> Path:
    """Rename a file or a folder to a free name beside it, `<name>.aside1` and so on.

    Returns:
        Where it is now.
    """
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.aside{number}")
        if not os.path.lexists(aside):
            os.rename(path, aside)
            return aside
    raise AssertionError("there is always another number")
