"""Attention let into a model, and what the model then returns and learns, whatever its task."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from zoo import same_bits

from attnzoo.hosts.attention import Attention

__all__ = ["let_attention_in", "not_learning", "run", "same_everywhere", "tensors"]


def let_attention_in(model: nn.Module, gamma: float = 0.5) -> nn.Module:
    """Move every γ away from zero: at zero the blocks behind it have no gradient yet."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Attention) and module.gamma is not None:
                module.gamma.fill_(gamma)
    return model


def not_learning(model: nn.Module) -> dict[str, str]:
    """Attention parameter → why it would not move in an optimizer's next step."""
    wrong = {}
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            for name, parameter in module.named_parameters():
                gradient = parameter.grad
                if gradient is None:
                    wrong[f"{path}.{name}"] = "has no gradient"
                elif not gradient.isfinite().all():
                    wrong[f"{path}.{name}"] = "has a gradient that is not finite"
                elif not gradient.any():
                    wrong[f"{path}.{name}"] = "has a gradient of zeros"
    return wrong


def run(model: nn.Module, images: Any) -> list[Tensor]:
    """The tensors that the model returns in eval mode, in whatever they are nested."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        results = tensors(model.eval()(images))
    for module, mode in modes.items():
        module.training = mode
    return results


def tensors(result: Any) -> list[Tensor]:
    """The tensors in nested dicts, lists and tuples, in order."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [found for item in result for found in tensors(item)]
    return []


def same_everywhere(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two lists of tensors agree in every bit; labels are compared as numbers."""
    return len(one) == len(other) and all(
        same_bits(a, b) if a.is_floating_point() else torch.equal(a, b)
        for a, b in zip(one, other, strict=True)
    )
