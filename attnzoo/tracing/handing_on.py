"""Modules that hand on the tensor they were given, and who reads it where.

`self.relu(y)` with `inplace=True` returns y itself. Attention behind it returns another map, which
`x + y` would never see, since that reads y. So while a forward pass is followed, such a module
returns another object for the same tensor, and what reads the one is told from what reads the
other.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

__all__ = ["HandingOn"]


class HandingOn:
    """The objects that stand for one tensor, which of them are read, and which calls made them.

    Attributes:
        watched: ids of those of which it matters whether they are read.
    """

    def __init__(self) -> None:
        self.watched: set[int] = set()
        self._alive: list[Tensor] = []  # keeps ids from being used again
        self._group: dict[int, list[int]] = {}  # id → the ids of all that stand for the same tensor
        self._parent: dict[int, int] = {}  # alias → what it was made of
        self._returning: dict[int, list[int]] = {}  # alias → calls that return it
        self._altered: dict[int, list[int]] = {}  # tensor → calls that changed it in place
        self._read: set[int] = set()
        self._altering: set[int] = set()

    def alias(self, tensor: Tensor) -> Tensor:
        """Another object for a tensor."""
        copy = Tensor._make_subclass(Tensor, tensor)  # as `detach`, but no mode sees an operation
        vars(copy).update(vars(tensor))
        self._alive += (copy, tensor)
        group = self._group.setdefault(id(tensor), [id(tensor)])
        group.append(id(copy))
        self._group[id(copy)] = group
        self._parent[id(copy)] = id(tensor)
        self._returning[id(copy)] = []
        self.watched.add(id(copy))
        return copy

    def same(self, tensor: Tensor) -> Iterable[int]:
        """The ids of all that stand for it."""
        return self._group.get(id(tensor)) or (id(tensor),)

    def returns(self, tensor: Tensor, call: int) -> None:
        """A call returns a tensor."""
        calls = self._returning.get(id(tensor))
        if calls is not None:
            calls.append(call)

    def altered(self, tensor: Tensor, call: int) -> None:
        """A call changed a tensor in place that it was given."""
        self._alive.append(tensor)
        self._altered.setdefault(id(tensor), []).append(call)
        self.watched.add(id(tensor))

    def read(self, tensors: Iterable[Tensor]) -> None:
        """An operation reads these, or the model returns them."""
        for tensor in tensors:
            if id(tensor) in self.watched:
                self._read.add(id(tensor))
                self._altering.update(self._altered.get(id(tensor), ()))

    def unread(self) -> frozenset[int]:
        """The calls that return what they were given, of which nobody reads what they return."""
        waiting, read = list(self._read), set(self._read)
        while waiting:
            parent = self._parent.get(waiting.pop())
            if parent is not None and parent not in read:
                read.add(parent)
                waiting.append(parent)
        unread = (calls for alias, calls in self._returning.items() if alias not in read)
        return frozenset(call for calls in unread for call in calls)

    def altering(self) -> frozenset[int]:
        """The calls that change a tensor in place which is read by its old name afterwards."""
        return frozenset(self._altering)
