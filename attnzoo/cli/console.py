"""What goes to the terminal: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "WIDE",
    "is_first_process",
    "megas",
    "percent",
    "progress_console",
    "result_console",
    "say_error",
    "show_json",
    "show_table",
    "working",
]

WIDE = 110  # columns from which a list has room for all that is known
PIPE_WIDTH = 160  # a pipe has no width; rich's guess of 80 would cut what grep looks for


def is_first_process() -> bool:
    """Whether this process is alone, or the first of those that train together: the one to talk."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def result_console() -> Console:
    """For what was asked for."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=PIPE_WIDTH if piped else None, highlight=False, markup=False)


def progress_console() -> Console:
    """For what is said on the way."""
    return Console(stderr=True, highlight=False, markup=False)


def show_json(value: Any) -> None:
    """Print a value as JSON, and nothing else, on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def show_table(title: str, columns: dict[str, str], rows: list[list[str]], total: Any = ()) -> None:
    """Print a table.

    Args:
        title: line above it.
        columns: heading → `"left"`, `"right"`, or `"fold"`: left, in several lines if need be.
        rows: the cells.
        total: a last row, set apart.
    """
    table = Table(box=None, pad_edge=False)
    for heading, kind in columns.items():
        table.add_column(
            heading,
            justify="right" if kind == "right" else "left",
            no_wrap=kind != "fold",
            overflow="fold",
            header_style="dim",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    if total:
        table.add_row(*(Text(cell, style="bold") for cell in total))
    console = result_console()
    table.padding = (0, 2, 0, 0)
    unlimited = console.options.update(width=10_000)
    if console.measure(table, options=unlimited).maximum > console.width:
        table.padding = (0, 1, 0, 0)
    with console.capture() as captured:
        # Not as the table's own, which would be broken at its width.
        console.print(Text(title, style="bold"), soft_wrap=True)
        console.print(table)
    # rich fills lines up with spaces, which are in the way where the text is pasted
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def say_error(message: str, hint: str = "") -> None:
    """Say on stderr what went wrong, in plain words."""
    console = progress_console()
    text = Text.assemble(("error: ", "bold red"), message)
    # Lines are broken for people only: a log is searched for whole sentences.
    console.print(text, soft_wrap=not console.is_terminal)
    if hint:
        console.print(Text(hint), soft_wrap=True)


@contextmanager
def working(task: str) -> Generator[None]:
    """Show that something goes on. What it prints on stdout goes to stderr, out of the result."""
    console = progress_console()
    with redirect_stdout(sys.stderr):
        if console.is_terminal:
            with console.status(f"{task} …"):
                yield
        else:
            yield


def megas(number: float) -> str:
    """In millions, to the hundredth."""
    return f"{number / 1e6:,.2f}"


def percent(part: float, whole: float) -> str:
    """What `part` adds to `whole`."""
    return f"{100 * part / whole:+.2f}%" if whole else "–"
