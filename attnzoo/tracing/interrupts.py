"""Ctrl-C and other signals, answered where nothing is half done.

Python runs the handler of a signal between any two steps of the main thread, so the exception that
a handler raises may come while a dispatch mode is being switched off, and then that mode stays on
for the rest of the process. Inside `held` handlers wait until somebody calls `answer`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["answer", "held", "waited_for"]

_NAMES = "SIGINT SIGTERM SIGBREAK SIGHUP SIGQUIT SIGALRM SIGVTALRM SIGUSR1 SIGUSR2"
#: Those whose handlers may raise; the others end the process, or are about faults of its own.
_SIGNALS = tuple(int(getattr(signal, name)) for name in _NAMES.split() if hasattr(signal, name))


class _Waiting:
    """Stands for the handlers, and notes what comes for them."""

    def __init__(self, handlers: dict[int, Any]) -> None:
        self._handlers = handlers
        self.came: list[tuple[int, FrameType | None]] = []
        self.only_once = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        asked_before = bool(self.came)
        self.came.append((number, frame))
        if asked_before and self.only_once:
            self.answer()

    def answer(self) -> None:
        while self.came:
            number, frame = self.came.pop(0)
            self._handlers[number](number, frame)


#: At most one: what is held already is held by the outermost.
_waiting: list[_Waiting] = []


@contextmanager
def held() -> Generator[None]:
    """Signals that come inside are answered at the next `answer`, or at the end.

    These are the ones that Python code handles: a signal that ends the process, or is ignored, does
    as before. Outside the main thread, where no handler ever runs, this does nothing.
    """
    if _waiting or threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    waiting = _Waiting(handlers)
    try:
        for number in handlers:
            signal.signal(number, waiting)
        _waiting.append(waiting)
        yield
    finally:
        _waiting.clear()
        _put_back(handlers)
        waiting.answer()


def _put_back(handlers: dict[int, Any]) -> None:
    """Of several handlers one may raise as soon as it is back; the others come back too."""
    raised: BaseException | None = None
    for _ in range(len(handlers) + 1):
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            break
        except BaseException as error:
            raised = error
    if raised is not None:
        raise raised


def answer() -> None:
    """Let the handlers run of signals that came since; what they raise is raised here."""
    if _waiting and _waiting[0].came and threading.current_thread() is threading.main_thread():
        _waiting[0].answer()


@contextmanager
def waited_for() -> Generator[None]:
    """Somebody else's code runs inside, which may never come to an `answer`.

    There a second signal is answered at once.
    """
    waiting = _waiting[0] if _waiting else None
    if waiting is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = waiting.only_once
    waiting.only_once = True
    try:
        yield
    finally:
        waiting.only_once = before
