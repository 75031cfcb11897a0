"""A map a few images at a time, so that what is made of them on the way stays in a core's cache.

Between two operations on the whole of it a map goes out to memory and comes back, which takes
longer than the arithmetic. Shapes: x (N, …); the others as x, with N or 1 in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["at_once", "in_turn"]

#: Values that a cache holds beside as many others.
_HELD = 2**18
#: Fewest values for each thread: torch gives no thread less.
_GRAIN = 2**15


def at_once(x: Tensor) -> int:
    """How many images of a map to go through at once; all of them where that is as quick."""
    count = len(x)
    if not x.is_cpu or x.ndim < 4 or count < 2 or not x.numel():
        return count
    image = x.numel() // count
    least = -(-_GRAIN * torch.get_num_threads() // image)
    return min(count, max(least, _HELD // image))


def in_turn(at_once: int, x: Tensor, *others: Any) -> Iterator[tuple[Any, ...]]:
    """So many images of x, with what is theirs of the others; numbers and None are everyone's."""
    count = len(x)
    pieces = x.split(at_once) if at_once < count else (x,)
    columns = [pieces]
    for other in others:
        if at_once < count and isinstance(other, Tensor) and len(other) == count:
            columns.append(other.split(at_once))
        else:
            columns.append((other,) * len(pieces))
    return zip(*columns, strict=True)
