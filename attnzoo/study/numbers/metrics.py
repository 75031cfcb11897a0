"""What verdicts can be on: a number of each run, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass

from attnzoo.errors import StudyError
from attnzoo.study.definition import Metric
from attnzoo.train import RunResult

__all__ = ["METRICS", "Measure"]


@dataclass(frozen=True)
class Measure:
    """One number of a run. It is told in hundredths: a share in percent.

    Attributes:
        name: as a study file has it.
        field: of `RunResult`.
        told: what a sentence calls it.
        heading: over a column, or at an axis.
        what: it is, in words.
        point, points: what a hundredth of it is called, and several.
        lower: whether less is better.
    """

    name: Metric
    field: str
    told: str
    heading: str
    what: str
    point: str = "point"
    points: str = "points"
    lower: bool = False

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.point == "point" and self.name != "r2"  # which may be negative

    @property
    def sign(self) -> int:
        """By which more is better."""
        return -1 if self.lower else 1

    @property
    def better(self) -> str:
        """What to say where less is better."""
        return "; lower is better" if self.lower else ""

    def of(self, result: RunResult) -> float | None:
        """The number of a run; None where it diverged.

        Raises:
            StudyError: it was not measured when the run was done.
        """
        if result.status != "finished":
            return None
        value = getattr(result, self.field)
        if value is None:
            raise StudyError(
                f"{result.backbone}, {result.variant}, seed {result.seed} has no {self.told}: it "
                f"was done before runs kept what they predict. Give the study a folder of its own "
                f"(--out), or another metric."
            )
        return value


METRICS: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("top1", "top1", "top-1", "top-1 %", "share of test images that are right"),
        Measure(
            "balanced",
            "balanced",
            "balanced accuracy",
            "balanced %",
            "mean over the classes of the share of their test images that are right",
        ),
        Measure(
            "macro_f1", "macro_f1", "macro F1", "macro F1 %", "mean over the classes of their F1"
        ),
        Measure(
            "nll",
            "test_loss",
            "negative log-likelihood",
            "NLL ×100",
            "mean negative logarithm of the probability given to the right class, in hundredths "
            "of a nat; lower is better",
            "hundredth of a nat",
            "hundredths of a nat",
            lower=True,
        ),
        Measure("map", "map", "mAP", "mAP %", "mean over the labels of their average precision"),
        Measure("f1", "f1", "F1", "F1 %", "mean over the labels of their F1"),
        Measure(
            "mae",
            "mae",
            "mean absolute error",
            "MAE ×100",
            "mean distance from the number that is right, in hundredths; lower is better",
            "hundredth",
            "hundredths",
            lower=True,
        ),
        Measure("r2", "r2", "R²", "R² %", "share of the variance that is explained"),
    )
}
"""Name → measure."""
