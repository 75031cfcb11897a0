"""Many networks, several at once; what is done is written down and not done again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from attnzoo.backbones import list_backbones
from attnzoo.checks import check_int
from attnzoo.errors import DataError, UnknownNameError
from attnzoo.registry import POLICIES as KNOWN
from attnzoo.sweep.check import POLICIES, check_network
from attnzoo.sweep.table import Row, read_rows, version_of, write_rows

__all__ = ["sweep"]

_SAVE_EVERY = 10
#: A worker is replaced after this many networks: some leave much behind in memory.
_NETWORKS_A_WORKER = 100


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
    for policy in asked:
        KNOWN[policy]  # or the error says which there are
    if not names:
        raise UnknownNameError(f"no backbone of torchvision or timm matches {pattern!r}.")
    rows = {(row.model, row.policy): row for row in read_rows(out)}
    missing = [name for name in names if not _is_done(rows, name, asked)]
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_quietly,
        max_tasks_per_child=_NETWORKS_A_WORKER,
    )
    waiting: list[str] = list(missing)
    try:
        futures = {pool.submit(check_network, name, asked): name for name in missing}
        for count, future in enumerate(as_completed(futures), start=1):
            name = futures[future]
            for row in future.result():
                rows[row.model, row.policy] = replace(row, version=version_of(name))
            waiting.remove(name)
            if watch is not None:
                watch(count, len(missing), name)
            if count % _SAVE_EVERY == 0:
                write_rows(out, rows.values())
    except BrokenProcessPool as error:
        raise DataError(
            f"a process of the sweep died, most likely for lack of memory; {waiting[0]} or one "
            f"soon after it was running. The rows so far are in {out}, and the same command goes "
            f"on from there; with --workers 1 there is more memory."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if len(waiting) < len(missing):
            write_rows(out, rows.values())
    return list(rows.values())


def _is_done(rows: dict[tuple[str, str], Row], name: str, policies: tuple[str, ...]) -> bool:
    keys = [(name, "")] if (name, "") in rows else [(name, policy) for policy in policies]
    return all(key in rows and rows[key].version == version_of(name) for key in keys)


def _quietly() -> None:
    """One thread a worker, and none of the libraries' warnings about their own defaults."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
