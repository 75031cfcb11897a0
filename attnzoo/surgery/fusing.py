"""Joining attention with the pool behind it, and compiling attention on the CPU; and back again.

The pool becomes a child of the attention, which runs both in one kernel where it can, and an
`nn.Identity` stands in its place. Neither has parameters, so no key of the state dict changes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import FunctionType, MethodType
from typing import Any, cast

import torch
from torch import nn

from attnzoo import kernels
from attnzoo.errors import NotWrappedError
from attnzoo.hosts import Attended, Attention, attend_output, check_module, paths_by_module
from attnzoo.surgery.changes import Changes

__all__ = ["Joined", "fuse", "is_fused", "unfuse", "unfuse_in"]


class Joined(nn.Identity):
    """Stands where a pool was that now runs inside the attention before it."""


def fuse(model: nn.Module) -> nn.Module:
    """Make the attention of a wrapped model faster; the model is changed in place and returned.

    Parameters and their names stay what they are; outputs do up to the rounding of another order of
    operations, and exactly where γ is zero. `unfuse` takes it back.

    - Attention whose block has fused kernels, and a 2×2 pool of stride 2 right behind it, become
      one: on a GPU one kernel writes the pooled map and no other. The pool's module moves into the
      attention (`….pool`), and an identity stands in its place, so the attention returns a pooled
      map. A pool that is watched by hooks stays where it is.
    - Attention whose parameters are on the CPU is compiled there by `torch.compile`, each by
      itself and when it first runs, if a C++ compiler is installed. A copy of the model, or a
      model read from a file, has not the compiled code: fuse that one too.

    Fused kernels without a pool need no `fuse`: on a GPU blocks that have them use them.

    Raises:
        NotWrappedError: if the model holds no attention.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> with torch.device("meta"):  # "cuda" where there is a GPU
        ...     model = attnzoo.wrap(torchvision.models.vgg11(), "pre-pool", "local")
        >>> keys = list(model.state_dict())
        >>> model = attnzoo.fuse(model)
        >>> model.features.attn_pre_2.pool, model.features[3]
        (MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False), Joined())
        >>> list(model.state_dict()) == keys
        True
    """
    check_module(model)
    attentions = [module for module in paths_by_module(model) if isinstance(module, Attention)]
    if not attentions:
        raise NotWrappedError(
            f"{type(model).__name__} holds no attention to fuse. Put some in with attnzoo.wrap."
        )
    changes = Changes(model)
    for attention, holder, name in _followed(model):
        joins = attention.pool is None and attention.axes == "NCHW"
        if joins and _has_kernels(attention.block) and not kernels.is_watched(attention):
            changes.put(attention, "pool", holder._modules[name])
            changes.put(holder, name, Joined())
    if _has_compiler():
        for attention in attentions:
            on_cpu = all(parameter.device.type == "cpu" for parameter in attention.parameters())
            if on_cpu and attention._compiled_call_impl is None:
                changes.set_attribute(attention, "_compiled_call_impl", _compiled(attention))
    changes.commit()
    return model


def unfuse(model: nn.Module) -> nn.Module:
    """Undo `fuse`: every pool is back in its place, no attention is compiled.

    The model is changed in place and returned; one that is not fused stays as it is.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> with torch.device("meta"):
        ...     model = attnzoo.wrap(torchvision.models.vgg11(), "pre-pool", "local")
        >>> model = attnzoo.unfuse(attnzoo.fuse(model))
        >>> model.features[3]
        MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    """
    check_module(model)
    changes = Changes(model)
    unfuse_in(changes)
    changes.commit()
    return model


def unfuse_in(changes: Changes) -> None:
    """What `unfuse` does, prepared."""
    for attention, holder, name in _followed(changes.root):
        if isinstance(holder._modules[name], Joined):
            changes.put(holder, name, attention.pool)
            changes.put(attention, "pool", None)
    for module in paths_by_module(changes.root):
        if isinstance(module, Attention) and "_compiled_call_impl" in vars(module):
            changes.drop_attribute(module, "_compiled_call_impl")


def is_fused(model: nn.Module) -> bool:
    """Whether `fuse` changed it."""
    return any(
        isinstance(module, Attention)
        and (module.pool is not None or module._compiled_call_impl is not None)
        for module in paths_by_module(model)
    )


def _followed(model: nn.Module) -> Iterator[tuple[Attention, nn.Module, str]]:
    """`(attention, holder, name)`: what the attention returns goes to that child of holder only.

    The child is a pool that can be joined, or stands where one was.
    """
    paths = paths_by_module(model)
    for holder in paths:
        if type(holder) is Attended and holder.where == "before":
            pairs = [(holder.attention, "host")]
        elif type(holder).forward is nn.Sequential.forward and "forward" not in holder.__dict__:
            entries = [(name, child) for name, child in holder._modules.items() if child]
            pairs = [(_last(one), name) for (_, one), (name, _) in pairwise(entries)]
        else:
            continue
        for attention, name in pairs:
            child = holder.get_submodule(name)
            fits = isinstance(child, Joined) or kernels.joinable(child) is not None
            # Elsewhere too, it would pool there as well.
            if attention is not None and fits and len(paths[attention]) == len(paths[holder]):
                yield attention, holder, name


def _last(module: nn.Module) -> Attention | None:
    """The attention whose result the module returns, if nobody else sees it."""
    hooks = list(module._forward_hooks.values())
    if hooks == [attend_output] and not module._backward_hooks:
        return cast("Attention", module.attn_out)  # `Hook` put it there
    if kernels.is_watched(module):
        return None
    if type(module) is Attention:
        return module
    if type(module) is Attended and module.where == "after":
        return _last(module.attention)
    if type(module) is nn.Sequential and len(module):
        return _last(module[-1])
    return None


def _has_kernels(block: nn.Module) -> bool:
    has_kernels = getattr(block, "has_kernels", None)
    return has_kernels is not None and has_kernels()


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


def _compiled(attention: Attention) -> Callable[..., Any]:
    """As `nn.Module.compile` does, but each attention by itself.

    The compiler gives up on a function after eight shapes, and all calls of modules are one
    function to it: every attention gets a copy.
    """
    call = FunctionType(_call.__code__.replace(co_name=f"attention_{id(attention)}"), globals())
    return torch.compile(MethodType(call, attention))


def _call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return self._call_impl(*args, **kwargs)
