"""Who counts, indexes or runs over a module's children, watched while a forward pass runs.

An entry that is added to such a module would shift the positions that its users mean, or run as
well. Where children are looked up by name, nothing shifts.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from torch import nn
from torch.nn.modules import container, module

__all__ = ["Readings", "WatchedChildren"]

_FORWARD, _ITER = nn.Sequential.forward.__code__, nn.Sequential.__iter__.__code__
_CHILDREN = frozenset({nn.Module.children.__code__, nn.Module.named_children.__code__})


@dataclass(frozen=True)
class Readings:
    """What was seen.

    Attributes:
        positions: paths of the modules whose children somebody counted, indexed or ran over.
        run_over: paths of those which `nn.Sequential.forward` ran over.
    """

    positions: set[str] = field(default_factory=set)
    run_over: set[str] = field(default_factory=set)


class WatchedChildren(dict[str, Any]):
    """The children of one module, in the place of its `_modules`."""

    __slots__ = ("path", "readings")

    def __init__(self, children: dict[str, Any], path: str, readings: Readings) -> None:
        super().__init__(children)
        self.path = path
        self.readings = readings

    def _note(self) -> None:
        asking = sys._getframe(2)
        caller = asking.f_back
        if asking.f_code is _ITER and caller is not None and caller.f_code is _FORWARD:
            self.readings.run_over.add(self.path)
        elif _means_positions(asking):
            self.readings.positions.add(self.path)

    def __iter__(self) -> Iterator[str]:
        self._note()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self._note()
        return super().__reversed__()

    def __len__(self) -> int:
        self._note()
        return super().__len__()

    def keys(self) -> Any:
        self._note()
        return super().keys()

    def values(self) -> Any:
        self._note()
        return super().values()

    def items(self) -> Any:
        self._note()
        return super().items()

    def copy(self) -> dict[str, Any]:
        self._note()
        return dict(super().items())


def _means_positions(asking: FrameType) -> bool:
    """Whether the children are asked for by code that means them one by one, in their order.

    Not so where torch visits all modules: for their parameters, to move them, to print them.
    """
    frame: FrameType | None = asking
    while frame is not None and frame.f_code in _CHILDREN:
        frame = frame.f_back
    if frame is None or frame.f_globals is vars(module):
        return False
    is_length = frame.f_globals is vars(container) and frame.f_code.co_name == "__len__"
    return not (is_length and frame.f_back is not None and _asks_for_truth(frame.f_back))


def _asks_for_truth(frame: FrameType) -> bool:
    """Whether what runs is `if sequential:`, which calls its length."""
    name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    return "JUMP" in name or name in ("UNARY_NOT", "TO_BOOL")
