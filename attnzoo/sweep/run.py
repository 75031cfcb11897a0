"""Many networks, several at once; what is done is written down and not done again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch

from attnzoo.backbones import list_backbones
from attnzoo.checks import check_int
from attnzoo.errors import DataError, UnknownNameError
from attnzoo.registry import POLICIES as KNOWN
from attnzoo.sweep.check import POLICIES, check_network
from attnzoo.sweep.table import Row, check_writable, read_rows, version_of, write_rows

__all__ = ["sweep"]

_WITH_WEIGHTS = "pretrained/"
_SAVE_EVERY = 10
#: A worker is replaced after this many networks: some leave much behind in memory.
_NETWORKS_A_WORKER = 40


def sweep(
    out: Path,
    pattern: str = "*",
    *,
    policies: Iterable[str] = POLICIES,
    workers: int = 2,
    watch: Callable[[int, int, str], None] | None = None,
) -> list[Row]:
    """Check every policy on every network whose name matches, and keep the rows in `out`.

    A network whose rows are in the file already, for the installed version of its library, is
    left alone: an interrupted sweep goes on where it was.

    Args:
        out: the table, comma-separated values.
        pattern: `"*"`, `"timm/*"`, `"torchvision/resnet*"`, …
        policies: their names.
        workers: processes.
        watch: called with networks done, networks in all, and the last one's name.

    Returns:
        All rows of the table.

    Raises:
        UnknownNameError: no network matches, or no policy has that name.
        DataError: `out` is something else, or a worker died.
    """
    check_int("sweep", "workers", workers, minimum=1)
    names, asked = list_backbones(pattern), tuple(policies)
    if not pattern.startswith(_WITH_WEIGHTS):  # they are networks of timm once more
        names = [name for name in names if not name.startswith(_WITH_WEIGHTS)]
    for policy in asked:
        KNOWN[policy]  # or the error says which there are
    if not names:
        raise UnknownNameError(f"no backbone of torchvision or timm matches {pattern!r}.")
    rows = {(row.model, row.policy): row for row in read_rows(out)}
    check_writable(out)
    missing = [name for name in names if not _is_done(rows, name, asked)]
    finished: set[str] = set()
    try:
        for name, found in _checked(missing, asked, workers):
            rows |= {(r.model, r.policy): replace(r, version=version_of(name)) for r in found}
            finished.add(name)
            if watch is not None:
                watch(len(finished), len(missing), name)
            if len(finished) % _SAVE_EVERY == 0:
                write_rows(out, rows.values())
    except BrokenProcessPool as error:
        first = next(name for name in missing if name not in finished)
        raise DataError(
            f"a process of the sweep died, most likely for lack of memory; {first} or one soon "
            f"after it was running. The rows so far are in {out}, and the same command goes on "
            f"from there; with --workers 1 there is more memory."
        ) from error
    finally:
        if finished:
            write_rows(out, rows.values())
    return list(rows.values())


def _checked(
    names: list[str], policies: tuple[str, ...], workers: int
) -> Iterator[tuple[str, list[Row]]]:
    """Each network's rows, in the order in which they are done.

    Some networks leave much behind in memory, so the processes are replaced now and then; all at
    once, for CPython's pool can hang where it replaces them one by one (its issue 115634).
    """
    remaining = iter(names)
    while batch := list(islice(remaining, _NETWORKS_A_WORKER * workers)):
        context = get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_quietly)
        try:
            futures = {pool.submit(check_network, name, policies): name for name in batch}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _is_done(rows: dict[tuple[str, str], Row], name: str, policies: tuple[str, ...]) -> bool:
    keys = [(name, "")] if (name, "") in rows else [(name, policy) for policy in policies]
    return all(key in rows and rows[key].version == version_of(name) for key in keys)


def _quietly() -> None:
    """One thread a worker, and none of the libraries' warnings about their own defaults."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
