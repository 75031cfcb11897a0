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

__all__ = ["ProgressWatch", "RunBar", "Watch", "progress_bars"]


class Watch:
    """Told what happens; does nothing. Subclass it to listen."""

    def begin(self, name: str, steps: int) -> None:
        """A run starts; it will take `steps` optimizer steps."""

    def resume(self, steps: int) -> None:
        """So many of the steps were done before: the run is taken up again."""

    def say(self, line: str) -> None:
        """Something that people should know of the run."""

    def remark(self, line: str) -> None:
        """What is good to know of one run, and too much of many."""

    def step(self, loss: float | None = None) -> None:
        """One step is done. `loss` is given now and then."""

    def epoch(self, row: dict[str, Any]) -> None:
        """One epoch is done; `row` is its line in `metrics.csv`."""

    def end(self, line: str) -> None:
        """The run is over; `line` says how it went."""


class RunBar(Watch):
    """The progress bar of one run, among those of `bars`; it comes and goes with the run.

    Where the output is no terminal, one line is printed when the run is over.
    """

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.task: TaskID | None = None
        self.note = ""

    def begin(self, name: str, steps: int) -> None:
        self._remove()
        self.task = self.bars.add_task(name, total=steps, note="")
        self.note = ""

    def resume(self, steps: int) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=steps)

    def say(self, line: str) -> None:
        self.bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def step(self, loss: float | None = None) -> None:
        if self.task is None:
            return
        if loss is not None:
            self.bars.update(self.task, note=f"loss {loss:.3f}{self.note}")
        self.bars.advance(self.task)

    def epoch(self, row: dict[str, Any]) -> None:
        top1 = row["test_top1"]
        told = f"loss {row['test_loss']:.4g}" if top1 is None else f"top-1 {100 * top1:.1f}%"
        self.note = f", {told}"

    def end(self, line: str) -> None:
        self._remove()
        self.say(line)

    def _remove(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None


class ProgressWatch(RunBar):
    """A progress bar in a terminal, for one run after another."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(progress_bars(console))

    def __enter__(self) -> ProgressWatch:
        self.bars.start()
        self.task = self.bars.add_task("Preparing", total=None, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def remark(self, line: str) -> None:
        self.say(line)

    def end(self, line: str) -> None:
        """The last bar stays, as it was at the end."""
        self.say(line)


def progress_bars(console: Console | None = None) -> Progress:
    """Bars with a note beside them; on stderr, unless a console is given."""
    console = console or Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
