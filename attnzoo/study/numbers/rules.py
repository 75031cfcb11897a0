"""What a study settled before its runs about how they are judged."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.study.definition import Correction

__all__ = ["LEVEL", "Rules"]

LEVEL = 0.05
"""A verdict other than "no evidence" needs a corrected p of at most this."""


@dataclass(frozen=True)
class Rules:
    """How comparisons are judged.

    Attributes:
        size: the difference in top-1, as a share, that `more_seeds` is about.
        margin: within which two count as the same, as a share; None: nothing is called the same.
        correction: over all comparisons of the study.
    """

    size: float = 0.01
    margin: float | None = None
    correction: Correction = "holm"
