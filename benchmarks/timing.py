"""Timing two things side by side in one run, in turns, so that a busy machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["in_turns"]


def in_turns(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run, `rounds` times each, taken in turns after one warm-up."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs) if number % 2 else list(runs)[::-1]
        for name in names:
            begin = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def summary(seconds: list[float]) -> str:
    """Median with the quartiles, in milliseconds."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return f"{middle * 1e3:8.1f} ms  ({low * 1e3:.1f} to {high * 1e3:.1f})"
