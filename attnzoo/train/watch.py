"""Watching a run: what training tells of itself while it goes on, and a progress bar for it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["ProgressWatch", "Watch"]


class Watch:
    """Told what happens; does nothing. Subclass it to listen."""

    def begin(self, name: str, steps: int) -> None:
        """A run starts; it will take `steps` optimizer steps."""

    def resume(self, steps: int) -> None:
        """So many of the steps were done before: the run is taken up again."""

    def say(self, line: str) -> None:
        """Something that people should know of the run."""

    def step(self, loss: float | None = None) -> None:
        """One step is done. `loss` is given now and then."""

    def epoch(self, row: dict[str, Any]) -> None:
        """One epoch is done; `row` is its line in `metrics.csv`."""

    def end(self, line: str) -> None:
        """The run is over; `line` says how it went."""


class ProgressWatch(Watch):
    """Progress bars in a terminal: one for the run, one for all runs where there are several.

    Where the output is no terminal, one line is printed per finished run.
    """

    def __init__(self, console: Console | None = None, runs: int = 1) -> None:
        self.console = console or Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.runs = runs
        self.all: TaskID | None = None
        self.current: TaskID | None = None
        self.note = ""

    def __enter__(self) -> ProgressWatch:
        self.bars.start()
        if self.runs > 1:
            self.all = self.bars.add_task("runs", total=self.runs, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def begin(self, name: str, steps: int) -> None:
        if self.current is not None:
            self.bars.remove_task(self.current)
        self.current = self.bars.add_task(name, total=steps, note="")
        self.note = ""

    def resume(self, steps: int) -> None:
        if self.current is not None:
            self.bars.update(self.current, completed=steps)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def step(self, loss: float | None = None) -> None:
        if self.current is None:
            return
        if loss is not None:
            self.bars.update(self.current, note=f"loss {loss:.3f}{self.note}")
        self.bars.advance(self.current)

    def epoch(self, row: dict[str, Any]) -> None:
        self.note = f", top-1 {100 * row['test_top1']:.1f}%"

    def end(self, line: str) -> None:
        if self.all is not None:
            self.bars.advance(self.all)
        self.console.print(line, highlight=False, soft_wrap=True)
