"""A forward pass in which meta tensors stand for the model's own.

Not by `torch.func.functional_call`, which leaves meta tensors behind in modules that are registered
under two names and in caches that a forward pass keeps.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.hosts import walk

__all__ = ["meta_forward"]

#: Attributes of every module that no forward pass changes: hooks and flags.
_BOOKKEEPING = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
#: Types of which most attributes are, and which hold nothing that could change.
_PLAIN = frozenset({bool, int, float, str, type(None)})
_NOTHING: dict[str, Any] = {}


def meta_forward(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    modes: Sequence[contextlib.AbstractContextManager[Any]] = (),
    *,
    grad: bool = False,
) -> Any:
    """The output of `model` in eval mode, its tensors replaced by meta tensors for this call.

    Args:
        model: any model.
        args: its arguments, tensors on meta.
        kwargs: those by name.
        modes: what the forward pass runs under, and nothing else of what happens here; the last
            one sees an operation first.
        grad: compute as for a backward pass, which some blocks do with more memory.
    """
    with (
        _on_meta(model),
        torch.set_grad_enabled(grad),
        torch.random.fork_rng(devices=[]),
        contextlib.ExitStack() as stack,
    ):
        for mode in modes:
            stack.enter_context(mode)
        return model(*args, **kwargs)


@contextmanager
def _on_meta(model: nn.Module) -> Generator[None]:
    """Meta tensors for all tensors of `model`, and eval mode; on leaving, every module as it was.

    Not `torch.func.functional_call`: it leaves meta tensors in a module that is registered under
    two names, and in whatever a forward pass keeps on its modules (anchors, caches, counters).
    """
    kept = [_Attributes(module) for module in dict.fromkeys(module for _, module in walk(model))]
    metas: dict[int, Tensor] = {}  # tied tensors stay tied
    try:
        for attributes in kept:
            attributes.replace(metas)
        yield
    finally:
        for attributes in kept:
            attributes.restore()


def _meta(tensor: Tensor, metas: dict[int, Tensor]) -> Tensor:
    """The meta tensor that stands for `tensor`."""
    meta = metas.get(id(tensor))
    if meta is None:
        meta = metas[id(tensor)] = torch.empty_strided(
            tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta"
        )
    return meta


@functools.cache
def _is_torchs_own(cls: type[nn.Module]) -> bool:
    """Whether it is a layer of torch, which keeps what may change where it is registered."""
    return cls.__module__.startswith("torch.nn.modules.")


class _Attributes:
    """The attributes of a module, with what its dicts and lists hold, to put back later."""

    __slots__ = ("_before", "_contents", "_now", "_own")

    def __init__(self, module: nn.Module) -> None:
        self._now = now = vars(module)
        self._before = now.copy()
        self._own: list[str] = []  # that may have to go to meta, besides what is registered
        self._contents: list[tuple[Any, Any]] = []
        if _is_torchs_own(type(module)):
            for value in (now["_parameters"], now["_buffers"], now["_modules"]):
                self._contents.append((value, value.copy() if value else _NOTHING))
            return
        for name in now.keys() - _BOOKKEEPING:
            value = now[name]
            if type(value) in _PLAIN:
                continue
            if isinstance(value, (dict, list, set)):
                self._contents.append((value, value.copy()))
            if isinstance(value, (Tensor, list)):
                self._own.append(name)

    def replace(self, metas: dict[int, Tensor]) -> None:
        now = self._now
        now["training"] = False
        for tensors in (now["_parameters"], now["_buffers"]):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = _meta(tensor, metas)
        for name in self._own:
            value = now[name]
            if isinstance(value, Tensor):
                now[name] = _meta(value, metas)
            elif type(value) is list and any(isinstance(item, Tensor) for item in value):
                now[name] = [
                    _meta(item, metas) if isinstance(item, Tensor) else item for item in value
                ]

    def restore(self) -> None:
        now, before = self._now, self._before
        now.update(before)
        if len(now) != len(before):
            now.clear()
            now.update(before)
        for value, contents in self._contents:
            if not (value or contents):
                continue
            if isinstance(value, list):
                value[:] = contents
            elif isinstance(value, set) or list(value) != list(contents):
                value.clear()
                value.update(contents)
            else:
                value.update(contents)
