"""What Python tells about the instances of a class that are to be copied."""

from __future__ import annotations

import copyreg
import enum
import functools
import sys
from types import FunctionType
from typing import Any

__all__ = ["can_be_imported", "is_made_in_python", "is_shared", "slots", "without_finalizer"]

#: Packages of objects that are about other threads, processes and files; a copy would not be known
#: to those. And torch's private ones: its compiler and its operators.
_ELSEWHERE = (
    "asyncio.",
    "concurrent.",
    "logging.",
    "multiprocessing.",
    "queue.",
    "socket.",
    "subprocess.",
    "threading.",
    "torch._",
)
_MANAGED_DICT = 1 << 4  # Py_TPFLAGS_MANAGED_DICT: the dict takes no room in the object


def is_shared(kind: type) -> bool:
    """Whether its instances stay what they are: classes, members of an enum, others."""
    return issubclass(kind, (type, enum.Enum)) or f"{kind.__module__}.".startswith(_ELSEWHERE)


def is_made_in_python(kind: type) -> bool:
    """Whether its objects hold all they are in a dict and slots; `object.__reduce__` asks it so."""
    pointer = tuple.__itemsize__
    size = object.__basicsize__ + pointer * len(slots(kind))
    size += pointer * (kind.__dictoffset__ != 0 and not kind.__flags__ & _MANAGED_DICT)
    size += pointer * (kind.__weakrefoffset__ > 0)
    holds = kind.__dictoffset__ != 0 or bool(slots(kind))
    return holds and kind.__basicsize__ <= size and not kind.__itemsize__


@functools.cache
def slots(kind: type) -> tuple[str, ...]:
    """Names of the slots of its instances."""
    return tuple(copyreg._slotnames(kind))  # ty: ignore[missing-attribute]


@functools.cache
def without_finalizer(kind: type) -> Any:
    """The class, or one of its name whose objects go without giving back what was never theirs."""
    if not hasattr(kind, "__del__"):
        return kind
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__slots__": ()}
    return type(kind.__name__, (kind,), {**names, "__del__": lambda self: None})


def can_be_imported(function: FunctionType) -> bool:
    """Whether it is what its name says in its module, and so the same one everywhere."""
    found: Any = sys.modules.get(function.__module__ or "")
    if getattr(found, function.__name__, None) is function:
        return True
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return getattr(found, "__func__", found) is function
