"""What a study settled before its runs about how they are judged."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.study.definition import Correction, Study
from attnzoo.study.numbers.metrics import METRICS, Measure
from attnzoo.train import Redrawn

__all__ = ["LEVEL", "Rules"]

LEVEL = 0.05
"""A verdict other than "no evidence" needs a corrected p of at most this."""


@dataclass(frozen=True)
class Rules:
    """How comparisons are judged.

    Attributes:
        measure: what verdicts are on.
        size: the difference in it, as a share, that `more_seeds` is about.
        margin: within which two count as the same, as a share; None: nothing is called the same.
        correction: over all comparisons of the study.
        looks: seeds at the first look and at the last, where the study is looked at after each;
            None: once, when it is done.
        shared: test images for each training image, where both are drawn anew at each seed from
            the same images, and differences hang together; 0 where they are not.
        comparisons: how many the study makes, where that cannot be counted because some have not
            begun.
    """

    measure: Measure = METRICS["top1"]
    size: float = 0.01
    margin: float | None = None
    correction: Correction = "holm"
    looks: tuple[int, int] | None = None
    shared: float = 0.0
    comparisons: int = 0

    @classmethod
    def of(cls, *studies: Study) -> Rules:
        """A study's; of several that are judged together, the strictest, looked at once."""
        margins = [study.same_within for study in studies]
        margin = min((m for m in margins if m is not None), default=None)
        claims = any(study.correction == "holm" for study in studies)
        alone = studies[0] if len(studies) == 1 else None
        looked = alone is not None and alone.look_from is not None
        return cls(
            shared=max(
                study.data.shared if isinstance(study.data, Redrawn) else 0.0 for study in studies
            ),
            measure=METRICS[studies[0].metric],
            size=min(study.difference_points for study in studies) / 100,
            margin=None if margin is None or None in margins else margin / 100,
            correction="holm" if claims else "fdr",
            looks=(alone.look_from, len(alone.seeds)) if alone and alone.look_from else None,
            comparisons=len(alone.comparisons) if alone and looked else 0,
        )
