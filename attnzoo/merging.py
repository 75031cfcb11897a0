"""Attention folded away where it comes to a constant: nothing of it is left, or computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import NotWrappedError
from attnzoo.hosts import SLOTS, Attended, Attention, Replaced, bare, get_module, named, split
from attnzoo.surgery import take_out_of
from attnzoo.tracing import checked_modules, qualname

__all__ = ["MergeReport", "merge"]

_LAYERS = (nn.BatchNorm2d, nn.Conv2d)


@dataclass(frozen=True)
class MergeReport:
    """What `merge` did; print it for a list.

    Attributes:
        merged: path of each attention that is gone → how.
        left: path of each that stays → why.
    """

    merged: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.merged)} of {len(self.merged) + len(self.left)} attentions merged."]
        lines += [f"{path}: {how}" for path, how in self.merged.items()]
        lines += [f"{path} stays: {why}" for path, why in self.left.items()]
        return "\n".join(lines)


def merge(model: nn.Module) -> MergeReport:
    """Fold away the attention that does the same to every map: for deployment, in eval mode.

    Attention whose γ is zero, that is switched off, or that returns every map as it is (gates that
    are 1) is taken out, and the model computes bit for bit what it did. Where the block multiplies
    each channel by a constant, and perhaps adds one (`affine`; gates whose last layers have no
    weights left), these go into the BatchNorm or convolution that makes the map, up to rounding.
    What depends on the map cannot be folded, and stays.

    Args:
        model: wrapped; changed in place. An optimizer, or what was compiled of it, is made after
            this.

    Returns:
        What was merged and how, what stays and why.

    Raises:
        NotWrappedError: the model holds no attention.
        UnsupportedModelError: it is compiled, fused, or set up for parallel training.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se")  # γ is zero
        >>> report = attnzoo.merge(model)
        >>> len(report.merged), attnzoo.attention_modules(model)
        (8, {})
    """
    checked_modules(model)
    root = bare(model)
    found = {path: module for path, module in named(root) if isinstance(module, Attention)}
    if not found:
        raise NotWrappedError(f"{type(model).__name__} holds no attention.")
    merged: dict[str, str] = {}
    left: dict[str, str] = {}
    folds: list[tuple[nn.Module, Tensor, Tensor]] = []
    for path, attention in found.items():
        if not attention.enabled or (attention.gamma is not None and not attention.gamma.any()):
            merged[path] = "taken out: γ is zero" if attention.enabled else "taken out: it is off"
            continue
        constant = _constant(attention)
        here = not isinstance(get_module(root, split(path)[0]), Replaced)
        if here and not isinstance(constant, str) and _is_identity(*constant):
            merged[path] = "taken out: it returns the map as it is"
            continue
        layer = _layer_before(root, path, attention)
        if isinstance(constant, str) or isinstance(layer, str):
            left[path] = constant if isinstance(constant, str) else str(layer)
            continue
        folds.append((layer, *constant))
        merged[path] = f"folded into the {type(layer).__name__} before it"
    with torch.no_grad():
        for layer, scale, shift in folds:
            _fold(layer, scale, shift)
    take_out_of(root, [found[path] for path in merged])
    return MergeReport(merged, left)


def _constant(attention: Attention) -> tuple[Tensor, Tensor] | str:
    """What each channel is multiplied by, and what is added to it; or why that is no constant."""
    block: Any = attention.block
    if attention.name == "none":
        scale, shift = torch.ones(attention.channels), torch.zeros(attention.channels)
    elif attention.name == "affine":
        scale, shift = block.scale.detach(), block.shift.detach()
    else:
        scale = _constant_gate(attention)
        if scale is None:
            return f"what {attention.name!r} does depends on the map"
        shift = torch.zeros_like(scale)
    if attention.gamma is not None:
        gamma = attention.gamma.detach().to(scale)
        scale, shift = 1 + gamma * (scale - 1), gamma * shift
    return scale, shift


def _is_identity(scale: Tensor, shift: Tensor) -> bool:
    return bool(scale.eq(1).all()) and not shift.any()


def _constant_gate(attention: Attention) -> Tensor | None:
    """The gate of each channel, where the layers that make it have no weights, but biases."""
    block: Any = attention.block
    if not hasattr(block, "gates") or not getattr(block, "last_layers", ()):
        return None
    layers = [block.get_submodule(path) for path in block.last_layers]
    if any(not hasattr(layer, "weight") or layer.weight.any() for layer in layers):
        return None
    device = next(block.parameters()).device
    x = torch.rand(1, attention.channels, 8, 8, device=device, dtype=layers[0].weight.dtype)
    training = block.training
    with torch.no_grad():
        gate = block.eval()(torch.ones_like(x))
        uniform = torch.equal(gate, gate[..., :1, :1].expand_as(gate))
        same = uniform and torch.allclose(block(x), x * gate)
    block.train(training)
    return gate[0, :, 0, 0] if same else None


def _layer_before(root: nn.Module, path: str, attention: Attention) -> nn.Module | str:
    """The BatchNorm or convolution whose output is the map, and is read by the attention alone."""
    parent, name = split(path)
    holder = get_module(root, parent)
    layer: nn.Module | None = None
    if isinstance(holder, Attended) and holder.where == "after":
        layer = holder.host
    elif type(holder).forward is nn.Sequential.forward:
        entries = list(holder._modules)
        at = entries.index(name)
        layer = holder._modules[entries[at - 1]] if at else None
    else:
        slot = SLOTS.get(qualname(type(holder))) or next(
            (one for one in SLOTS.values() if one.subclass == qualname(type(holder))), None
        )
        layer = getattr(holder, slot.after) if slot is not None and slot.name == name else None
    if attention.axes != "NCHW" or not isinstance(layer, _LAYERS):
        return "no BatchNorm or convolution stands straight before it"
    if sum(module is layer for _, module in root.named_modules(remove_duplicate=False)) > 1:
        return "the layer before it is used elsewhere, too"
    return layer


def _fold(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    assert isinstance(layer, nn.BatchNorm2d | nn.Conv2d)
    if layer.weight is None:  # a BatchNorm without a scale of its own
        assert layer.running_var is not None
        layer.affine = True
        layer.weight = nn.Parameter(torch.ones_like(layer.running_var))
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias
    shape = (-1, *[1] * (layer.weight.ndim - 1))
    layer.weight.mul_(scale.to(layer.weight).view(shape))
    layer.bias = nn.Parameter((bias * scale + shift).to(layer.weight))
