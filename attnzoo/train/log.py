"""A run's `log.txt`: its epochs, what libraries warn of, and the traceback where it fails."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attnzoo.train.watch import Watch

__all__ = ["LoggedWatch", "run_log"]


class LoggedWatch(Watch):
    """Writes what it is told into a log, and tells another watch."""

    def __init__(self, watch: Watch, logger: logging.Logger) -> None:
        self.watch = watch
        self.logger = logger

    def begin(self, name: str, steps: int) -> None:
        self.logger.info("%s: %d steps", name, steps)
        self.watch.begin(name, steps)

    def resume(self, steps: int) -> None:
        self.watch.resume(steps)

    def say(self, line: str) -> None:
        self.logger.info("%s", line)
        self.watch.say(line)

    def remark(self, line: str) -> None:
        self.logger.info("%s", line)
        self.watch.remark(line)

    def step(self, loss: float | None = None) -> None:
        self.watch.step(loss)

    def epoch(self, row: dict[str, Any]) -> None:
        told = " ".join(f"{key} {_short(value)}" for key, value in row.items() if value != "")
        self.logger.info("%s", told)
        self.watch.epoch(row)

    def end(self, line: str) -> None:
        self.logger.info("%s", line)
        self.watch.end(line)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class _LogFile(logging.FileHandler):
    """A log that the disk has no room for ends no training, and prints no tracebacks of its own."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def run_log(path: Path, watch: Watch) -> Generator[Watch]:
    """Add to the log at `path` what happens inside, and what the watch that it gives is told.

    Warnings, and log records from the level that the root logger has, go there too.
    """
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.Logger("attnzoo.run")  # of its own: nobody else's handlers hear of epochs
    logger.addHandler(handler)
    show: Any = warnings.showwarning

    def note(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        logger.warning("%s", warnings.formatwarning(message, category, filename, lineno).rstrip())
        show(message, category, filename, lineno, *rest)

    changed: Any = warnings
    changed.showwarning = note
    logging.getLogger().addHandler(handler)
    try:
        yield LoggedWatch(watch, logger)
    except KeyboardInterrupt:
        logger.info("interrupted")
        raise
    except BaseException:  # SystemExit too: the log is all that is left of a worker
        logger.exception("failed")
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        if warnings.showwarning is note:
            changed.showwarning = show
        handler.close()
