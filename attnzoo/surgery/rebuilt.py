"""Whether attention outlives what a module makes of itself when the network is reparameterised."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from attnzoo.hosts import (
    REBUILDING,
    Attention,
    get_module,
    has_attribute,
    join,
    prefixes,
    rebuilds,
    split,
)
from attnzoo.surgery.changes import Changes
from attnzoo.surgery.edits import Edit, Replace, Wrap
from attnzoo.tracing import Trace, Twin

__all__ = ["is_lost", "rebuilt_around"]


def rebuilt_around(trace: Trace, path: str) -> list[str]:
    """Paths of the modules that make other layers of those they hold, from this one outwards.

    The model itself is none: whoever asks it knows what stands in it.
    """
    known = ((one, trace.modules.get(one)) for one in (path, *prefixes(path)) if one)
    return [one for one, info in known if info is not None and info.rebuilds]


def is_lost(trace: Trace, model: nn.Module, edit: Edit) -> bool:
    """Whether attention that an edit puts in is gone once that is done, or it fails.

    It is tried: on a twin of the module, with any weights. (On meta, sums with what such a method
    makes on the CPU would fail.)
    """
    around = isinstance(edit, Wrap | Replace)
    changed = split(edit.hosts[0] if around else edit.path)[0]
    paths = rebuilt_around(trace, changed)
    if not paths:
        return False
    if around and len(paths) > 1:  # the outer one may know the layers of the inner one by class
        return True
    root, attention = _alone(model, paths[-1]), Attention(nn.Identity(), "none", 1, device="meta")
    with torch.no_grad(), contextlib.suppress(Exception):  # whatever they come upon
        changes = Changes(root)
        edit.apply(changes, attention)
        changes.commit()
        _rebuild(root)
        return all(module is not attention for module in root.modules())
    return True


def _alone(model: nn.Module, path: str) -> nn.Module:
    """A twin of one module, at its path in a tree that holds nothing else."""
    root = nn.Module()
    parent, name = split(path)
    holder, walked = root, ""
    for step in parent.split(".") if parent else []:
        walked = join(walked, step)
        holder._modules[step] = holder = nn.Module()
    holder._modules[name] = part = Twin(get_module(model, path)).root
    for module in part.modules():
        for key, tensor in module._parameters.items():
            module._parameters[key] = (
                None if tensor is None else nn.Parameter(_zeros(tensor), False)
            )
        for key, buffer in module._buffers.items():
            module._buffers[key] = None if buffer is None else _zeros(buffer)
    return root


def _zeros(meta: Tensor) -> Tensor:
    return torch.zeros_like(meta, device="cpu")


def _rebuild(module: nn.Module) -> None:
    """As timm's `reparameterize_model` and peft's `merge_and_unload` do."""
    for name, child in list(module.named_children()):
        method = next((one for one in REBUILDING if has_attribute(child, one)), None)
        if method is not None and rebuilds(type(child)):
            made = getattr(child, method)()
            if isinstance(made, nn.Module):
                setattr(module, name, made)
                child = made
        _rebuild(child)
