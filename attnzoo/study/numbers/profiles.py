"""What variants are over many backbones, without a single number (Agarwal et al., 2021).

`Deep reinforcement learning at the edge of the statistical precipice`, arXiv:2108.13264. Runs are
paired by seed here, so seeds are drawn for variant and plain together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["improvement", "improvement_interval", "profile", "profile_band"]

DRAWS = 2000


def improvement(ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike]) -> float:
    """Chance that a run of ours has more than a run of theirs, on a backbone drawn at random.

    Runs of any two seeds are held against each other; ties count half.

    Args:
        ours: scores, an array over seeds for each backbone.
        theirs: the same of what is compared with.
    """
    return float(np.mean([_above(a, b) for a, b in _pairs(ours, theirs)]))


def improvement_interval(
    ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike], level: float = 0.95
) -> tuple[float, float]:
    """Its interval by a bootstrap of the seeds within each backbone, ours and theirs together."""
    rng = np.random.default_rng(0)
    drawn = np.zeros(DRAWS)
    pairs = _pairs(ours, theirs)
    for a, b in pairs:
        taken = rng.integers(len(a), size=(DRAWS, len(a)))
        drawn += _above(a[taken], b[taken]) / len(pairs)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def profile(differences: Sequence[ArrayLike], at: ArrayLike) -> NDArray:
    """Share of runs whose difference is above each value of `at`, each backbone counting alike.

    Args:
        differences: over seeds, an array for each backbone.
        at: values.
    """
    return np.mean([(np.asarray(d)[:, None] > np.asarray(at)).mean(0) for d in differences], axis=0)


def profile_band(
    differences: Sequence[ArrayLike], at: ArrayLike, level: float = 0.95
) -> tuple[NDArray, NDArray]:
    """Its pointwise interval by a bootstrap of the seeds within each backbone."""
    rng = np.random.default_rng(0)
    drawn = np.zeros((DRAWS, len(np.asarray(at))))
    for values in differences:
        array = np.asarray(values)
        above = (array[:, None] > np.asarray(at)).astype(float)
        counts = rng.multinomial(len(array), np.full(len(array), 1 / len(array)), size=DRAWS)
        drawn += counts @ above / len(array) / len(differences)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _pairs(ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike]) -> list[tuple[NDArray, NDArray]]:
    return [(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)]


def _above(ours: NDArray, theirs: NDArray) -> NDArray:
    gap = ours[..., :, None] - theirs[..., None, :]
    return ((gap > 0) + 0.5 * (gap == 0)).mean((-2, -1))
