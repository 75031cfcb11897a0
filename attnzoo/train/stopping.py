"""Ctrl-C and SIGTERM: a training that is asked to stop ends the step in progress first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

__all__ = [
    "LOOK_EVERY",
    "Interrupted",
    "Stop",
    "asked_of_all",
    "catching_stops",
    "leave_stopping_to_parent",
]

LOOK_EVERY = 10
"""Steps between two looks at the losses: each look waits for the accelerator."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training was asked to stop, and stopped; what it had done is kept.

    Attributes:
        signal: which signal asked: `SIGINT` (Ctrl-C) or `SIGTERM`.
        exit_code: what a program that ends by it returns by convention, 130 or 143.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number


class Stop:
    """Whether a signal came, and which; 0 is none."""

    number = 0

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: no waiting for a step that never ends
        self.number = number


@contextmanager
def catching_stops() -> Generator[Stop]:
    """Note Ctrl-C and SIGTERM instead of stopping at once; the former handlers come back after.

    A second Ctrl-C does stop at once. Outside the main thread, where Python allows no handlers,
    nothing is caught; a signal that the program ignores stays ignored.
    """
    stop = Stop()
    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.getsignal(number) for number in SIGNALS}
        former = {n: h for n, h in former.items() if h not in (signal.SIG_IGN, None)}
    try:
        for number in former:
            signal.signal(number, stop)
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def leave_stopping_to_parent(_: int = 0) -> None:
    """In a process that reads images: it goes when the training does, never before."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def asked_of_all(stop: Stop, fabric: Any) -> Callable[[int], int]:
    """Step → the signal that asks to stop, or 0; all processes get the same answer.

    They agree every `LOOK_EVERY` steps only: each time they have to wait for one another.
    """
    if fabric.world_size == 1:
        return lambda step: stop.number

    def agreed(step: int) -> int:
        if step % LOOK_EVERY:
            return 0
        asked = torch.tensor([stop.number], device=fabric.device)
        return int(fabric.all_reduce(asked, reduce_op="max"))

    return agreed
