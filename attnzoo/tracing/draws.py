"""Random numbers of our own: the same ones as the process would draw next, which it still will.

To draw from the process's generator and rewind it afterwards would rewind it for other threads too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Draws", "own_draws"]

#: Overload → the one that takes a generator besides.
_WITH_GENERATOR = {
    "default": "generator",
    "low": "low_generator",
    "low_dtype": "low_generator_dtype",
    "Tensor": "Tensor_generator",
    "names": "generator_with_names",
}


class Draws:
    """Gives operations that draw random numbers on the CPU a generator of their own."""

    def __init__(self) -> None:
        self._generator: torch.Generator | None = None

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What the operation returns."""
        drawing = _drawing(func)
        if drawing is None or kwargs.get("generator") is not None or not _on_cpu(args, kwargs):
            return func(*args, **kwargs)
        if self._generator is None:
            self._generator = torch.Generator()
            self._generator.set_state(torch.get_rng_state())
        return drawing(*args, **{**kwargs, "generator": self._generator})


@contextmanager
def own_draws() -> Generator[None]:
    """What is drawn inside is what the process would draw next, and will draw all the same.

    Where this is the only thread, nobody can tell whether the process's generator was rewound.
    """
    alone = len(sys._current_frames()) == 1
    with torch.random.fork_rng(devices=[]) if alone else _OwnDraws():
        yield


class _OwnDraws(TorchDispatchMode):
    """Whatever is drawn inside comes from a generator that begins where the process's is now."""

    def __init__(self) -> None:
        super().__init__()
        self._draws = Draws()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in `FastShapes`

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._draws.run(func, args, kwargs or {})


@functools.cache
def _drawing(func: Any) -> Any:
    """The overload of an operation that takes a generator; None of one that draws nothing."""
    if _takes_generator(func):
        return func
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return None
    return getattr(func.overloadpacket, _WITH_GENERATOR.get(func._overloadname, ""), None)


def _takes_generator(func: Any) -> bool:
    return any(argument.name == "generator" for argument in func._schema.arguments)


def _on_cpu(args: Any, kwargs: Any) -> bool:
    if args and isinstance(args[0], Tensor):
        return args[0].device.type == "cpu"
    device = kwargs.get("device")
    return device is None or torch.device(device).type == "cpu"
