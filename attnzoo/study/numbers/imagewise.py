"""Comparisons image by image: what the test images, and not the seeds alone, allow to say.

Verdicts are about seeds, on these test images. A bootstrap that draws seeds and images anew, each
with replacement (Owen, 2007, arXiv:0712.1111), says how far the difference would be another on
other images as well; it counts what seeds and images have in common twice, and so is a little wide.
McNemar's (1947) test looks at the images that one of two has right and the other wrong. Over seeds
an image is one and the same, not several: its differences are summed (Durkalski et al., 2003,
doi:10.1002/sim.1438), and with one seed that is McNemar's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attnzoo.study.numbers.metrics import Measure
from attnzoo.train import MEASURES, Predictions, require

__all__ = ["Images", "Resampled", "compared", "mcnemar_p"]

DRAWS = 1000
FEWEST = 200
WORK = 1e9  # numbers that all draws together look at

Pairs = Mapping[int, tuple[Predictions, Predictions]]
"""Seed → answers of the variant, and of what it is compared with, on the same images."""


@dataclass(frozen=True)
class Images:
    """One comparison over its test images.

    Attributes:
        seeds: with predictions of both.
        mean: difference in the metric, as a share.
        low, high: 95% interval by drawing seeds and images anew; None with a single seed.
        gained, lost: images, over all seeds, that only the variant has right, or only the other.
        p: of McNemar's test, each image counting once; None where the two never differ.
        always, never: places of images that the variant has right at all seeds and the other at
            none, and the reverse.
    """

    seeds: int
    mean: float
    low: float | None
    high: float | None
    gained: int
    lost: int
    p: float | None
    always: tuple[int, ...]
    never: tuple[int, ...]


@dataclass
class Resampled:
    """Runs on test images that are drawn anew, the same images for all of them.

    Args:
        measure: what is measured on them.
        images: how many there are to draw from.
        runs: how many runs will be asked for.
    """

    measure: Measure
    images: int
    runs: int = 1
    known: dict[int, tuple[Predictions, NDArray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = WORK / max(1, self.images * self.runs)
        self.draws = int(np.clip(wanted, FEWEST, DRAWS))
        rng = np.random.default_rng(0)
        self.counts = np.zeros((self.draws, self.images), np.float32)
        for row in self.counts:
            row += np.bincount(rng.integers(self.images, size=self.images), minlength=self.images)

    def of(self, found: Predictions) -> NDArray:
        """`(draws,)`: the measure of a run on each draw."""
        if id(found) not in self.known:  # the run is kept too, so that no other has its id
            drawn = self.counts[:, found.images].astype(float)
            self.known[id(found)] = found, MEASURES[self.measure.name](found, drawn)
        return self.known[id(found)][1]


def compared(pairs: Pairs, resampled: Resampled, level: float = 0.95) -> Images:
    """A variant and what it is compared with, image by image; one seed at least."""
    measure = MEASURES[resampled.measure.name]
    gaps = [float(measure(ours) - measure(theirs)) for ours, theirs in pairs.values()]
    low = high = None
    if len(pairs) > 1:
        each = np.array([resampled.of(a) - resampled.of(b) for a, b in pairs.values()])
        rng = np.random.default_rng(1)
        shares = np.full(len(pairs), 1 / len(pairs))
        weights = rng.multinomial(len(pairs), shares, size=resampled.draws) / len(pairs)
        drawn = (weights * each.T).sum(1)
        low, high = map(float, np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    right, wrong, tested = (np.zeros(resampled.images, int) for _ in range(3))
    for ours, theirs in pairs.values():
        right[ours.images] += ours.right & ~theirs.right
        wrong[ours.images] += theirs.right & ~ours.right
        tested[ours.images] += 1
    p = mcnemar_p(right - wrong)
    return Images(
        seeds=len(pairs),
        mean=float(np.mean(gaps)),
        low=low,
        high=high,
        gained=int(right.sum()),
        lost=int(wrong.sum()),
        p=p,
        always=tuple(np.flatnonzero((right == tested) & (tested > 0)).tolist()),
        never=tuple(np.flatnonzero((wrong == tested) & (tested > 0)).tolist()),
    )


def mcnemar_p(differences: Sequence[int] | NDArray) -> float | None:
    """P that both are right equally often, by the images alone; None where they never differ.

    Args:
        differences: an image each: at how many more seeds the one has it right than the other.
    """
    told = np.asarray(differences, dtype=float)
    spread = (told**2).sum()
    if spread == 0:
        return None
    return float(require("scipy.stats", "scipy").chi2.sf(told.sum() ** 2 / spread, 1))
