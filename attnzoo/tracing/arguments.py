"""The arguments of a forward pass as plain JSON: shapes, dtypes and structure, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attnzoo.errors import OptionError

__all__ = ["example_told", "tell_arguments"]

#: Dtypes by their names in JSON.
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
        *(torch.complex128, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32),
        torch.int64,
    )
}
KINDS: dict[str, type] = {"list": list, "tuple": tuple}
PLAIN = (bool, int, float, str, type(None))


class _UntoldError(Exception):
    """An argument that JSON has no word for."""


def tell_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the arguments are, values of tensors apart; None where one of them cannot be told."""
    try:
        return {
            "args": [_tell(item) for item in args],
            "kwargs": {name: _tell(item) for name, item in kwargs.items()},
        }
    except _UntoldError:
        return None


def example_told(told: Any) -> tuple[Any, ...] | dict[str, Any]:
    """The inverse of `tell_arguments`: an example for `wrap`, with its tensors on meta.

    Raises:
        OptionError: it is not what `tell_arguments` returns.
    """
    try:
        if told.keys() != {"args", "kwargs"} or not isinstance(told["args"], list):
            raise _UntoldError(told)
        args = tuple(_untell(item) for item in told["args"])
        kwargs = {str(name): _untell(item) for name, item in told["kwargs"].items()}
    except (_UntoldError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"arguments of a forward pass are told by {{'args': […], 'kwargs': {{…}}}}, each a "
            f"tensor, list, tuple, dict or value; not by {error}."
        ) from error
    return kwargs or args


def _tell(item: Any) -> dict[str, Any]:
    if isinstance(item, Tensor):
        name = str(item.dtype).removeprefix("torch.")
        if name in DTYPES and item.layout == torch.strided:
            return {"tensor": list(item.shape), "dtype": name}
    elif type(item) in KINDS.values():
        return {type(item).__name__: [_tell(part) for part in item]}
    elif type(item) is dict and all(type(name) is str for name in item):
        return {"dict": {name: _tell(part) for name, part in item.items()}}
    elif type(item) in PLAIN:
        return {"value": item}
    raise _UntoldError(item)


def _untell(told: Any) -> Any:
    keys = set(told)
    if keys == {"tensor", "dtype"}:
        sizes = told["tensor"]
        if told["dtype"] in DTYPES and all(type(size) is int and size >= 0 for size in sizes):
            return torch.zeros(sizes, dtype=DTYPES[told["dtype"]], device="meta")
    elif len(keys) == 1:
        ((kind, inside),) = told.items()
        if kind in KINDS and isinstance(inside, list):
            return KINDS[kind](_untell(part) for part in inside)
        if kind == "dict":
            return {str(name): _untell(part) for name, part in inside.items()}
        if kind == "value" and type(inside) in PLAIN:
            return inside
    raise _UntoldError(told)
