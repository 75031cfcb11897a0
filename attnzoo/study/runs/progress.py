"""Progress of a study in a terminal: a bar for all runs, and one for each that goes on."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console

from attnzoo.train import RunBar, Watch, progress_bars

__all__ = ["StudyBars"]


class StudyBars:
    """Progress bars; where the output is no terminal, a line for each run that is over.

    Args:
        console: where they go; stderr without it.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.bars = progress_bars(console)
        self.all = self.bars.add_task("Preparing", total=None, note="")

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
        self.bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def watch(self) -> Watch:
        """For one run: its bar comes and goes with it."""
        return RunBar(self.bars)
