"""Plain weights in and out of a wrapped model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnzoo.errors import CheckpointError
from attnzoo.hosts import Attended, Attention, Replaced, join

__all__ = ["LoadReport", "backbone_state_dict", "copy_into", "load_backbone", "plain_keys"]


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


def plain_keys(model: nn.Module) -> dict[str, str]:
    """Key in the model's state dict → the key the same tensor has without attention.

    Keys of attention are left out.
    """
    attention = tuple(
        f"{path}." for path, module in model.named_modules() if isinstance(module, Attention)
    )
    wrappers = [
        path
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, Attended | Replaced)
    ]
    keys = {}
    for key in model.state_dict():
        if not key.startswith(attention):
            plain = key
            for path in reversed(wrappers):  # innermost first: prefixes of outer ones still hold
                plain = plain.replace(f"{path}.host.", f"{path}.", 1) if path else plain
            keys[key] = plain
    return keys


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
    state = model.state_dict()
    plain = {key: state[actual] for actual, key in plain_keys(model).items()}
    for path, aside in _put_aside(model):
        plain.update({join(path, key): value for key, value in aside.state_dict().items()})
    return plain


def load_backbone(
    model: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True
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
        key: f"{key} ({tuple(state_dict[key].shape)} for {tuple(own[key].shape)})"
        for key in own
        if key in state_dict and state_dict[key].shape != own[key].shape
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


def copy_into(model: nn.Module, plain: Mapping[str, Tensor]) -> None:
    """Copy tensors by plain key into the model, modules put aside included."""
    actual = {key: name for name, key in plain_keys(model).items()}
    _load(model, {actual[key]: tensor for key, tensor in plain.items() if key in actual})
    for path, aside in _put_aside(model):
        prefix = f"{path}."
        _load(
            aside,
            {
                key.removeprefix(prefix): tensor
                for key, tensor in plain.items()
                if key not in actual and key.startswith(prefix)
            },
        )


def _load(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    on_meta = any(t.is_meta for t in (*module.parameters(), *module.buffers()))
    with torch.no_grad():
        module.load_state_dict(tensors, strict=False, assign=on_meta)


def _put_aside(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """`(path, module)` of the modules that attention replaced outright."""
    return [
        (path, module.original)
        for path, module in model.named_modules()
        if isinstance(module, Replaced) and "host" not in module._modules
    ]
