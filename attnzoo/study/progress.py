"""Progress of a study in a terminal: a bar for all runs, and one for each that goes on."""

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

from attnzoo.train.watch import Watch

__all__ = ["StudyBars"]


class StudyBars:
    """Progress bars; where the output is no terminal, a line for each run that is over.

    Args:
        console: where they go; stderr without it.
        runs: how many there are to do.
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
        self.all = self.bars.add_task("Preparing", total=None, note="")
        self.runs = runs

    def __enter__(self) -> StudyBars:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def begin(self, runs: int) -> None:
        """The runs begin; so many are to do."""
        self.runs = runs
        self.bars.update(self.all, description="runs", total=runs)

    def advance(self) -> None:
        """A run is over."""
        self.bars.advance(self.all)
        self.bars.update(self.all, note="")

    def waiting(self, runs: int) -> None:
        """The last runs are somebody else's at the moment."""
        noun = "run" if runs == 1 else "runs"
        self.bars.update(self.all, note=f"waiting for {runs} {noun} that another process does")

    def say(self, line: str) -> None:
        """A line that stays, above the bars."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def watch(self) -> Watch:
        """For one run: its bar comes and goes with it."""
        return _Bar(self)


class _Bar(Watch):
    def __init__(self, owner: StudyBars) -> None:
        self.owner = owner
        self.bars = owner.bars
        self.task: TaskID | None = None
        self.note = ""

    def begin(self, name: str, steps: int) -> None:
        self._remove()
        self.task = self.bars.add_task(name, total=steps, note="")

    def resume(self, steps: int) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=steps)

    def say(self, line: str) -> None:
        self.owner.say(line)

    def step(self, loss: float | None = None) -> None:
        if self.task is None:
            return
        if loss is not None:
            self.bars.update(self.task, note=f"loss {loss:.3f}{self.note}")
        self.bars.advance(self.task)

    def epoch(self, row: dict[str, Any]) -> None:
        self.note = f", top-1 {100 * row['test_top1']:.1f}%"

    def end(self, line: str) -> None:
        self._remove()
        self.owner.say(line)

    def _remove(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None
