"""A watch whose events go to another process, where they are told to a watch there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from attnzoo.train import Watch

__all__ = ["Event", "Relay", "retell"]

Event = tuple[Any, ...]
"""The name of a method of `Watch`, and its arguments; `("steps", n, loss)` stands for n steps."""

EVERY = 0.2  # seconds between two messages about steps


class Relay(Watch):
    """Sends what it is told; steps are gathered, so that a fast training is not slowed down.

    Args:
        send: takes an event to the other process.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self.send = send
        self.steps = 0
        self.loss: float | None = None
        self.sent = time.monotonic()

    def begin(self, name: str, steps: int) -> None:
        self.send(("begin", name, steps))

    def resume(self, steps: int) -> None:
        self.send(("resume", steps))

    def say(self, line: str) -> None:
        self.send(("say", line))

    def step(self, loss: float | None = None) -> None:
        self.steps += 1
        self.loss = self.loss if loss is None else loss
        if time.monotonic() - self.sent >= EVERY:
            self._flush()

    def epoch(self, row: dict[str, Any]) -> None:
        self._flush()
        self.send(("epoch", row))

    def end(self, line: str) -> None:
        self._flush()
        self.send(("end", line))

    def _flush(self) -> None:
        if self.steps:
            self.send(("steps", self.steps, self.loss))
        self.steps, self.loss = 0, None
        self.sent = time.monotonic()


def retell(event: Event, watch: Watch) -> None:
    """Tell a watch what a `Relay` elsewhere was told."""
    name, *arguments = event
    if name == "steps":
        count, loss = arguments
        for _ in range(count - 1):
            watch.step()
        watch.step(loss)
    else:
        getattr(watch, name)(*arguments)
