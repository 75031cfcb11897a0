"""Timing two things side by side in one run, in turns, so that a busy machine disturbs both."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

__all__ = ["in_turns", "keep_memory", "ratio", "summary"]

#: Read by glibc when a process begins.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


def keep_memory() -> None:
    """Start this program again so that freed memory stays with the process.

    Else glibc gives some of it back at every step, now of one run, now of the other, and the page
    faults that follow differ by up to a tenth between two runs that do the same.
    """
    if not _KEEP_MEMORY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _KEEP_MEMORY)


def ratio(ones: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """The median of one by the other, turn by turn, with its 95 % interval."""
    ratios = np.array(ones) / np.array(others)
    low, high = stats.bootstrap([ratios], np.median, rng=0).confidence_interval
    return float(np.median(ratios)), float(low), float(high)


def in_turns(
    runs: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every run, `rounds` times each, taken in turns after one warm-up.

    With `time.process_time` for the clock: those of the processor, which what else runs on the
    machine takes no part of.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs) if number % 2 else list(runs)[::-1]
        for name in names:
            begin = clock()
            runs[name]()
            seconds[name].append(clock() - begin)
    return seconds


def summary(seconds: list[float]) -> str:
    """Median with the quartiles, in milliseconds."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return f"{middle * 1e3:8.1f} ms  ({low * 1e3:.1f} to {high * 1e3:.1f})"
