"""Variants ranked within each backbone, over many backbones (Demšar, 2006, JMLR 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnzoo.study.numbers.corrections import holm
from attnzoo.study.numbers.rules import LEVEL
from attnzoo.train import require

__all__ = ["ENOUGH", "Ranks", "critical_difference", "friedman_p", "ranked"]

ENOUGH = 5
"""Backbones from which on ranks are shown; with fewer, Nemenyi's difference is nearly as large as
mean ranks can be apart."""


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of variants, 1 the best.

    Attributes:
        backbones: how many each was ranked in.
        mean: variant → its mean rank, best first.
        p: of Friedman's test in the form of Iman and Davenport, that all are alike.
        critical: mean ranks that differ by less are not told apart (Nemenyi, at 5%).
        p_plain: variant → p that it has the same rank as plain, after Holm's correction.
    """

    backbones: int
    mean: Mapping[str, float]
    p: float
    critical: float
    p_plain: Mapping[str, float]

    @property
    def groups(self) -> list[tuple[float, float]]:
        """From rank to rank: the longest runs of variants that are not told apart."""
        ranks = sorted(self.mean.values())
        ends = [max(r for r in ranks if r - first < self.critical) for first in ranks]
        kept: list[tuple[float, float]] = []
        for first, last in zip(ranks, ends, strict=True):
            if last > first and (not kept or last > kept[-1][1]):
                kept.append((first, last))
        return kept


def ranked(scores: Mapping[str, ArrayLike], plain: str | None = None) -> Ranks:
    """Rank variants by their scores, a score a backbone, higher being better.

    Args:
        scores: variant → its score on each backbone; two variants or more, two backbones or more.
        plain: which of them the others are compared with.
    """
    names = list(scores)
    table = np.array([scores[name] for name in names], dtype=float).T
    stats = require("scipy.stats", "scipy")
    mean = dict(zip(names, stats.rankdata(-table, axis=1).mean(0).tolist(), strict=True))
    count, backbones = len(names), len(table)
    others = [name for name in names if name != plain] if plain in names else []
    error = math.sqrt(count * (count + 1) / (6 * backbones))
    p = [2 * stats.norm.sf(abs(mean[name] - mean[plain or ""]) / error) for name in others]
    return Ranks(
        backbones=backbones,
        mean=dict(sorted(mean.items(), key=lambda pair: pair[1])),
        p=float(friedman_p(table)),
        critical=critical_difference(count, backbones),
        p_plain=dict(zip(others, holm(p).tolist(), strict=True)) if others else {},
    )


def friedman_p(scores: ArrayLike) -> NDArray:
    """P that all variants are alike, by Friedman's test with Iman and Davenport's F (1980).

    Args:
        scores: `(…, backbones, variants)`.
    """
    stats = require("scipy.stats", "scipy")
    ranks = stats.rankdata(scores, axis=-1)
    n, k = ranks.shape[-2:]
    mean = ranks.mean(-2)
    between = n**2 * ((mean - (k + 1) / 2) ** 2).sum(-1)
    spread = ((ranks - (k + 1) / 2) ** 2).sum((-2, -1)) / (k - 1)  # n·k·(k+1)/12 without ties
    chi = between / np.where(spread > 0, spread, 1)
    rest = n * (k - 1) - chi
    f = (n - 1) * chi / np.where(rest > 1e-12, rest, 1e-12)
    return np.where(spread > 0, stats.f.sf(f, k - 1, (k - 1) * (n - 1)), 1.0)


def critical_difference(variants: int, backbones: int, level: float = LEVEL) -> float:
    """Nemenyi's: mean ranks that differ by at least this are told apart."""
    quantile = require("scipy.stats", "scipy").studentized_range.isf(level, variants, np.inf)
    return float(quantile) / math.sqrt(2) * math.sqrt(variants * (variants + 1) / (6 * backbones))
