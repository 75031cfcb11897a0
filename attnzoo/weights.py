"""Plain weights in and out of a wrapped model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import CheckpointError
from attnzoo.hosts import Attended, Attention, Replaced

__all__ = ["LoadReport", "backbone_state_dict", "copy_into", "load_backbone"]


@dataclass(frozen=True)
class LoadReport:
    """What `load_backbone` did not transfer; all empty when everything was.

    Attributes:
        loaded: how many tensors were transferred.
        missing: plain keys of the model that the state dict lacks.
        unexpected: keys of the state dict that the model lacks.
        mismatched: keys whose shapes differ, with both shapes.
    """

    loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything was transferred, both ways."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{self.loaded} tensors transferred."]
        for title, keys in (
            ("missing from the state dict", self.missing),
            ("not in the model", self.unexpected),
            ("of another shape", self.mismatched),
        ):
            if keys:
                more = f", … ({len(keys)} in all)" if len(keys) > 8 else ""
                lines.append(f"{title}: {', '.join(keys[:8])}{more}")
        return "\n".join(lines)


def backbone_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict the model would have without attention: plain keys, no attention weights.

    Tensors are the model's own, as in `state_dict()`. A plain model takes it with `strict=True`.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual")
        >>> plain = torchvision.models.resnet18()
        >>> plain.load_state_dict(attnzoo.backbone_state_dict(model), strict=True)
        <All keys matched successfully>
    """
    return dict(_without_attention(model).state_dict())


def load_backbone(
    model: nn.Module, state_dict: Mapping[str, Any], strict: bool = True
) -> LoadReport:
    """Load plain weights, such as a pretrained checkpoint, into a wrapped model.

    Attention weights stay as they are.

    Args:
        model: wrapped or plain. On the meta device its tensors are taken from `state_dict`.
        state_dict: plain keys.
        strict: whether every key and shape must match; nothing is loaded if one does not.

    Returns:
        What was not transferred; with `strict` always nothing.

    Raises:
        CheckpointError: with `strict`, if a key is missing, unexpected, or of another shape.
    """
    own = backbone_state_dict(model)
    mismatched = {
        key: f"{key} ({_shape(state_dict[key])} for {_shape(own[key])})"
        for key in own
        if key in state_dict and _shape(state_dict[key]) != _shape(own[key])
    }
    matching = [key for key in own if key in state_dict and key not in mismatched]
    report = LoadReport(
        loaded=len(matching),
        missing=tuple(key for key in own if key not in state_dict),
        unexpected=tuple(key for key in state_dict if key not in own),
        mismatched=tuple(mismatched.values()),
    )
    if strict and not report.complete:
        raise CheckpointError(
            f"the state dict does not fit {type(model).__name__}; nothing was loaded.\n"
            f"{str(report).partition(chr(10))[2]}\n"
            f"With strict=False what fits is loaded, and the rest is reported."
        )
    copy_into(model, {key: state_dict[key] for key in matching})
    return report


def copy_into(model: nn.Module, plain: Mapping[str, Any]) -> None:
    """Copy tensors by plain key into the model, modules put aside included."""
    view = _without_attention(model)
    on_meta = any(t.is_meta for t in (*view.parameters(), *view.buffers()))
    with torch.no_grad():
        view.load_state_dict(dict(plain), strict=False, assign=on_meta)


def _without_attention(module: nn.Module, known: dict[int, nn.Module] | None = None) -> nn.Module:
    """The module tree as it is without attention, to read and write its state by; never to be run.

    Modules with attention below them are other objects that share their parameters, buffers and
    hooks with the model's; all others are the model's own. So every name that a tensor has is
    plain, in however many places its module is registered, and hooks on state dicts do what they
    do in the plain network.
    """
    known = {} if known is None else known
    if id(module) in known:
        return known[id(module)]
    known[id(module)] = module  # a module may hold itself
    if isinstance(module, Attended | Replaced):
        host = module.host if isinstance(module, Attended) else module.original
        plain = _without_attention(host, known)
    else:
        children = {
            name: child if child is None else _without_attention(child, known)
            for name, child in module._modules.items()
            if not isinstance(child, Attention)
        }
        plain = module
        if any(child is not children.get(name) for name, child in module._modules.items()):
            plain = object.__new__(type(module))
            plain.__dict__.update(module.__dict__, _modules=children)
    known[id(module)] = plain
    return plain


def _shape(value: Any) -> tuple[int, ...] | None:
    """Of a tensor; a state dict may hold other state, which has none."""
    return tuple(value.shape) if isinstance(value, Tensor) else None
