"""Tensors in nested tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["NUMBERS", "Nested", "Output", "nested", "only_numbers", "shapes_of", "tensors_in"]

NUMBERS = frozenset({bool, int, float, type(None)})

_NESTED = (dict, list, tuple)
#: Stands for what is neither a tensor of the pass nor a number.
_OTHER = object()


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor in what a call returned: its value."""

    value: int


@dataclass(frozen=True, slots=True)
class Nested:
    """What a call returned: tuples, lists and dicts of numbers, and of `Output`s for tensors."""

    tree: Any

    def __hash__(self) -> int:
        return hash(type(self.tree))

    def remade(self, make: Callable[[int], Tensor]) -> Any:
        """The like of it, with tensors made of their values."""
        return _remade(self.tree, make)


def nested(output: Any, values: Mapping[int, int]) -> Nested | None:
    """An output with values, by the ids of tensors, or None if it holds anything else."""
    tree = _told(output, values)
    return None if tree is _OTHER else Nested(tree)


def _told(output: Any, values: Mapping[int, int]) -> Any:
    if isinstance(output, Tensor):
        value = values.get(id(output))
        return _OTHER if value is None else Output(value)
    kind = type(output)
    if kind is dict:
        items = [_told(item, values) for item in output.values()]
        return _OTHER if _OTHER in items else dict(zip(output, items, strict=True))
    if kind is tuple or kind is list:
        items = [_told(item, values) for item in output]
        return _OTHER if _OTHER in items else kind(items)
    return output if kind in NUMBERS else _OTHER


def _remade(tree: Any, make: Callable[[int], Tensor]) -> Any:
    kind = type(tree)
    if kind is Output:
        return make(tree.value)
    if kind is dict:
        return {name: _remade(item, make) for name, item in tree.items()}
    if kind is tuple or kind is list:
        return kind([_remade(item, make) for item in tree])
    return tree


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    if isinstance(tree, _NESTED):
        for item in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(item, Tensor):
                found.append(item)
            elif isinstance(item, _NESTED) and not only_numbers(item):
                found += tensors_in(item)  # strides, paddings and dims are lists of int
    return found


def shapes_of(tree: Any) -> tuple[tuple[int, ...], ...]:
    """Shapes of the tensors in nested tuples, lists and dicts."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(tree))


def only_numbers(items: Any) -> bool:
    """Whether this is a stride, a padding or the like, as most lists among arguments are."""
    if not items or isinstance(items, dict):
        return not items
    return type(items[0]) is type(items[-1]) is int
