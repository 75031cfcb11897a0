"""What to feed a model for one forward pass: from what the caller says, or the model's own size."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import OptionError
from attnzoo.hosts import tensors_below, walk

__all__ = [
    "default_input_size",
    "describe",
    "is_volume",
    "model_dtype",
    "published_input_size",
    "resolve_example",
]

#: Frames of the video that a network of 3-D convolutions is fed by default.
_FRAMES = 16


def resolve_example(
    model: nn.Module, example: Any = None, device: torch.device | str = "meta"
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`(args, kwargs)` for one forward pass, their tensors on `device`.

    Args:
        model: asked for its own input size, number of channels and dtype.
        example: None (the model's default); an input size, `(C, H, W)`, `(N, C, H, W)` or, of a
            video or volume, `(N, C, D, H, W)` or `(C, D, H, W)`; a tensor; a list of images (one
            argument, as torchvision's detectors take it); a tuple of positional arguments; or a
            dict of keyword arguments.
        device: the default, meta, takes no memory.

    Raises:
        OptionError: if `example` is none of these.
    """
    if example is None:
        channels, *size = default_input_size(model)
        if isinstance(_first_convolution(model), nn.Conv3d):
            return (_empty((1, channels, _FRAMES, *size), model, device),), {}
        size = (channels, *size)
        if type(model).__module__.startswith("torchvision.models.detection"):
            return ([_empty(size, model, device)],), {}
        return (_empty((1, *size), model, device),), {}
    if isinstance(example, Tensor):
        return (_to(example, device),), {}
    if isinstance(example, torch.Size | list | tuple) and _is_size(example):
        size = tuple(example)
        one = len(size) == 3 or is_volume(model, size)
        return (_empty((1, *size) if one else size, model, device),), {}
    if isinstance(example, tuple):
        return tuple(_to(item, device) for item in example), {}
    if isinstance(example, list):
        return ([_to(item, device) for item in example],), {}
    if isinstance(example, dict):
        return (), {name: _to(item, device) for name, item in example.items()}
    raise OptionError(
        f"example={example!r}: pass an input size such as (3, 224, 224), a tensor, a list of "
        f"images, a tuple of arguments or a dict of keyword arguments."
    )


def is_volume(model: nn.Module, example: Any) -> bool:
    """Whether four numbers are the size of one volume, `(C, D, H, W)`, and not of images."""
    first = _first_convolution(model)
    four = isinstance(example, tuple | list) and len(example) == 4 and _is_size(example)
    return four and isinstance(first, nn.Conv3d) and first.in_channels == example[0]


def default_input_size(model: nn.Module) -> tuple[int, int, int]:
    """`(C, H, W)`: timm's configuration, torchvision's weights, else 224 × 224.

    C is what the model's first convolution takes.
    """
    channels, height, width = published_input_size(model)
    first = _first_convolution(model)
    return (first.in_channels if first is not None else channels), height, width


def _first_convolution(model: nn.Module) -> nn.Conv2d | nn.Conv3d | None:
    return next((m for _, m in walk(model) if isinstance(m, nn.Conv2d | nn.Conv3d)), None)


def published_input_size(model: nn.Module) -> tuple[int, int, int]:
    """`(C, H, W)` that the published weights take, whatever the first convolution takes.

    The two differ where pixels are folded into channels first, and where the model was built for
    another number of channels.
    """
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if isinstance(config, dict) and len(config.get("input_size") or ()) == 3:
        channels, height, width = config["input_size"]
        return channels, height, width
    return 3, *_torchvision_size(model)


def _torchvision_size(model: nn.Module) -> tuple[int, int]:
    """The crop of the first weights published in the torchvision file that defines the model."""
    module = type(model).__module__
    if module.startswith("torchvision.models.detection"):
        return 320, 320
    if not module.startswith("torchvision.models"):
        return 224, 224
    for name, entry in vars(sys.modules[module]).items():
        if name.endswith("_Weights") and hasattr(entry, "__members__"):
            for weights in entry:
                crop = getattr(weights.transforms, "keywords", {}).get("crop_size")
                if isinstance(crop, int):
                    return crop, crop
                if isinstance(crop, tuple) and len(crop) == 2:
                    return crop
    return 224, 224


def model_dtype(model: nn.Module) -> torch.dtype:
    """Dtype of the model's first floating-point parameter or buffer, else torch's default."""
    floating = (tensor.dtype for tensor in tensors_below(model) if tensor.is_floating_point())
    return next(floating, torch.get_default_dtype())


def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Shapes of the tensors among the arguments, for messages."""
    shown = [_shape(arg) for arg in args]
    shown += [f"{name}={_shape(arg)}" for name, arg in kwargs.items()]
    return f"an example of {', '.join(shown) or 'no arguments'}"


def _shape(item: Any) -> str:
    if isinstance(item, Tensor):
        return f"({', '.join(map(str, item.shape))})"
    if isinstance(item, list | tuple):
        return f"[{', '.join(map(_shape, item))}]"
    return repr(item)


def _is_size(example: Any) -> bool:
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in example)
    return whole and len(example) in (3, 4, 5)


def _empty(size: tuple[int, ...], model: nn.Module, device: torch.device | str) -> Tensor:
    try:
        return torch.zeros(size, dtype=model_dtype(model), device=device)
    except RuntimeError as error:
        raise OptionError(f"example={size}: no tensor is so large: {error}") from error


def _to(item: Any, device: torch.device | str) -> Any:
    if isinstance(item, Tensor):
        return item.to(device)
    if isinstance(item, list | tuple):
        return type(item)(_to(entry, device) for entry in item)
    if isinstance(item, dict):
        return {name: _to(entry, device) for name, entry in item.items()}
    return item
