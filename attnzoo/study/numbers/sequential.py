"""Looking again after each seed, without finding too much.

The 5% are spent over the looks in proportion to (seeds / most)^1.5 (Lan and DeMets, 1983,
doi:10.1093/biomet/70.3.659; Kim and DeMets, 1987, doi:10.1093/biomet/74.1.149). A comparison is
decided at the first look at which p of the paired t test is within that look's bound.

Bounds for normal values would err with few seeds: p of t tests at successive looks hang together
less than those of z tests, and 5.4% of null studies would find something. So the bounds here are
those of the t test itself. With n values of mean 0, u = Σx / √Σx² tells t, and from one look to the
next it is a Markov chain: u' = (u + y) / √(1 + y²), where √n·y has Student's t distribution with n
degrees of freedom whatever came before, for Σx² is independent of all u (Basu, 1955). The chain is
followed on a grid of normal scores.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnzoo.train import require

__all__ = ["SPENDING", "look_bounds", "p_at_looks", "sequential_p", "sequential_same_p"]

CELLS = 240
FARTHEST = 8.0
"""The normal score that no bound goes beyond: 1e-15, spent for certain by nobody."""

SPENDING = 1.5
"""How late level and power are spent: of the exponents tried, with it fewest seeds are needed."""

LEVELS = np.geomspace(1e-7, 0.7, 71)
"""Between these, p of a comparison is interpolated; what is above the last is 1."""


def look_bounds(least: int, most: int, levels: ArrayLike = 0.05) -> NDArray:
    """The p that the paired t test must reach at each look, from `least` seeds to `most`.

    Args:
        least: seeds at the first look; 3 or more.
        most: seeds at the last.
        levels: chance, in all, of finding something where there is nothing; one or several.

    Returns:
        Two-sided p, `(levels, looks)` or `(looks,)`.
    """
    special = require("scipy.special", "scipy")
    level = np.atleast_1d(np.asarray(levels, dtype=float))
    edges, _ = _grid()
    looks = np.arange(least, most + 1)
    spent = level[:, None] * (looks / most) ** SPENDING
    steps = np.diff(spent, axis=1, prepend=0)
    bounds = np.empty_like(steps)
    # The chance of each cell, and of going beyond each edge, that has not been decided before.
    beyond = np.tile(2 * special.ndtr(-edges), (len(level), 1))
    mass = -np.diff(beyond, axis=1)
    for k, seeds in enumerate(looks):
        if k:
            beyond = mass @ _kernel(int(seeds) - 1)
        ends = np.array(
            [_crossing(edges, row, step) for row, step in zip(beyond, steps[:, k], strict=True)]
        )
        bounds[:, k] = 2 * special.ndtr(-ends)
        kept = np.clip((ends[:, None] - edges[:-1]) / (edges[1] - edges[0]), 0, 1)
        mass = -np.diff(beyond, axis=1) * kept
    return bounds if np.ndim(levels) else bounds[0]


def sequential_p(differences: ArrayLike, least: int, most: int) -> NDArray:
    """Two-sided p of "the mean difference is 0", looked at after each difference from `least` on.

    It is the smallest level at which a look so far would have decided: at most α where the rule
    with level α has decided, however many looks there were (Liu and Anderson, 2008), and so
    Holm's correction may follow. It never grows with further seeds. 1 with fewer than `least`.

    Args:
        differences: along the last axis, in the order of the looks; at most `most`.
        least: seeds at the first look.
        most: seeds at the last.
    """
    return _smallest(p_at_looks(differences, 0.0, least), least, most)


def sequential_same_p(differences: ArrayLike, margin: float, least: int, most: int) -> NDArray:
    """P of "the mean difference is `margin` or more, either way", looked at again and again."""
    sides = [
        _smallest(
            2 * p_at_looks(sign * np.asarray(differences, float), -margin, least, 1), least, most
        )
        for sign in (1, -1)
    ]
    larger = np.maximum(*sides)
    return np.where(larger < 1, larger / 2, 1.0)


def p_at_looks(differences: ArrayLike, null: float, least: int, sides: int = 2) -> NDArray:
    """P of the t test of mean `null` at each look; one-sided: above it. 1 without any spread."""
    array = np.asarray(differences, dtype=float) - null
    count = np.arange(1, array.shape[-1] + 1)[least - 1 :]
    total = array.cumsum(-1)[..., least - 1 :]
    squares = (array**2).cumsum(-1)[..., least - 1 :]
    rest = squares - total**2 / count  # of squares about the mean
    flat = rest <= 1e-12 * np.maximum(squares, 1e-12)
    t = total / np.sqrt(np.where(flat, 1, rest) * count / (count - 1))
    tail = require("scipy.special", "scipy").stdtr(count - 1, -np.abs(t) if sides == 2 else -t)
    return np.where(flat, 1.0, np.minimum(sides * tail, 1))


def _smallest(p: NDArray, least: int, most: int) -> NDArray:
    """The smallest level whose bounds have been reached, of p at the looks so far."""
    if p.shape[-1] == 0:
        return np.ones(p.shape[:-1])
    logs, bounds = np.log(LEVELS), np.log(_table(least, most))
    found = [
        np.interp(np.log(np.clip(p[..., k], 1e-300, 1)), bounds[:, k], logs, right=0.0)
        for k in range(p.shape[-1])
    ]
    return np.exp(np.min(found, axis=0))


@functools.lru_cache(maxsize=32)
def _table(least: int, most: int) -> NDArray:
    return look_bounds(least, most, LEVELS)


@functools.cache
def _grid() -> tuple[NDArray, NDArray]:
    """Edges and middles of cells of |normal score|."""
    edges = np.linspace(0, FARTHEST, CELLS + 1)
    return edges, (edges[1:] + edges[:-1]) / 2


def _crossing(edges: NDArray, beyond: NDArray, step: float) -> float:
    """The score beyond which there is a chance of `step`."""
    floor = 1e-300
    return float(np.interp(-np.log(max(step, floor)), -np.log(np.maximum(beyond, floor)), edges))


@functools.lru_cache(maxsize=128)
def _kernel(seeds: int) -> NDArray:
    """Chance of going from each middle at `seeds` to beyond each edge at one seed more."""
    special = require("scipy.special", "scipy")
    edges, middles = _grid()
    u = _direction(middles, seeds)[:, None]
    c = _direction(edges, seeds + 1)[None, :]
    lead = 1 - c**2
    lead = np.where(np.abs(lead) < 1e-9, 1e-9, lead)
    # (u + y)² > c²(1 + y²), a parabola in y
    room = u**2 + 1 - c**2
    half = c * np.sqrt(np.maximum(room, 0))
    roots = np.sort(np.stack([(-u - half) / lead, (-u + half) / lead]), axis=0) * np.sqrt(seeds)
    below, above = special.stdtr(seeds, roots[0]), special.stdtr(seeds, -roots[1])
    between = special.stdtr(seeds, -roots[0]) - above
    return np.where(lead > 0, below + above, np.where(room > 0, between, 0.0))


def _direction(score: NDArray, seeds: int) -> NDArray:
    """Σx / √Σx² of `seeds` values whose t has this normal score."""
    special = require("scipy.special", "scipy")
    t = -special.stdtrit(seeds - 1, special.ndtr(-score))
    return t * np.sqrt(seeds / (seeds - 1 + t**2))
