"""A study and a file of weights that are older than the package's rooms, and copies to change."""

from __future__ import annotations

import shutil
from pathlib import Path

BEFORE = Path(__file__).parents[1] / "data" / "before"


def old_study(place: Path) -> Path:
    """A copy of the study's folder."""
    return shutil.copytree(BEFORE / "study", place)
