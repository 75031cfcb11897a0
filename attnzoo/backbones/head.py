"""The two ends of a network that hang on the data: its head, and its first convolution."""

from __future__ import annotations

import copy
from typing import Any

from timm.models import adapt_input_conv
from torch import nn

from attnzoo.errors import OptionError, TraceError
from attnzoo.structure import head_paths
from attnzoo.tracing import Trace, probe

Layer = (nn.Linear, nn.Conv2d)

__all__ = ["adapt_input", "classes_of", "first_convolution", "head_of", "replace_head"]


def head_of(model: nn.Module, example: Any = None) -> tuple[str, ...]:
    """Paths of the layers that make the scores, mostly one; found by one pass on meta tensors.

    Args:
        model: returns scores `(N, classes)`.
        example: as in `attnzoo.wrap`.

    Raises:
        OptionError: no linear layer, and no convolution of one pixel, makes them.

    Example:
        >>> import torchvision
        >>> from attnzoo.backbones import head_of
        >>> head_of(torchvision.models.vgg11())
        ('classifier.6',)
    """
    paths = head_paths(_traced(model, example))
    if not paths or not all(isinstance(model.get_submodule(path), Layer) for path in paths):
        raise OptionError(
            f"{type(model).__name__}: what makes its scores is no linear layer and no 1×1 "
            f"convolution, so no head was found."
        )
    return paths


def classes_of(model: nn.Module, path: str) -> int:
    """How many scores the layer at `path` makes."""
    return _layer(model, path).weight.shape[0]


def replace_head(model: nn.Module, num_classes: int, example: Any = None) -> tuple[str, ...]:
    """Give a network a fresh head of another number of classes, drawn as `nn.Linear` draws.

    timm's networks do it by `reset_classifier`; in others the last linear layer, or 1×1
    convolution, that makes the scores is replaced.

    Args:
        model: changed in place.
        num_classes: scores that it is to return.
        example: as in `attnzoo.wrap`.

    Returns:
        Paths of the new layers.

    Raises:
        OptionError: no head was found.

    Example:
        >>> import torchvision
        >>> from attnzoo.backbones import replace_head
        >>> model = torchvision.models.squeezenet1_1()
        >>> replace_head(model, 7)
        ('classifier.1',)
    """
    paths = head_of(model, example)
    network: Any = model
    if callable(getattr(network, "reset_classifier", None)):
        network.reset_classifier(num_classes)
        paths = head_of(model, example)
        for path in paths:
            _layer(model, path).reset_parameters()
        return paths
    for path in paths:
        model.set_submodule(path, _alike(_layer(model, path), num_classes))
    if isinstance(getattr(network, "num_classes", None), int):
        network.num_classes = num_classes
    return paths


def adapt_input(model: nn.Module, channels: int, example: Any = None) -> str:
    """Let a network take images of another number of channels; the path of the layer changed.

    The first convolution's weights are summed for one channel, else repeated and scaled, by
    timm's `adapt_input_conv`.

    Args:
        model: of three channels; changed in place.
        channels: of the images from now on.
        example: as in `attnzoo.wrap`.

    Raises:
        OptionError: no convolution takes the image.
    """
    path = first_convolution(model, example)
    old = None if path is None else model.get_submodule(path)
    if path is None or not isinstance(old, nn.Conv2d) or old.groups != 1:
        raise OptionError(
            f"{type(model).__name__}: the image goes into no ordinary convolution first, so it "
            f"cannot be made to take channels={channels}."
        )
    new = copy.copy(old)  # a subclass of Conv2d stays one
    new._parameters = dict(old._parameters)
    weight = adapt_input_conv(channels, old.weight.detach())
    new.weight = nn.Parameter(weight.contiguous(), requires_grad=old.weight.requires_grad)
    new.in_channels = channels
    model.set_submodule(path, new)
    return path


def _traced(model: nn.Module, example: Any) -> Trace:
    training = {module: module.training for module in model.modules()}
    try:
        # Networks with auxiliary heads return these, too, while they train.
        return probe(model.eval(), example)
    except TraceError as error:
        raise OptionError(
            f"{type(model).__name__}: its head is found by a forward pass, which fails. {error}"
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode


def first_convolution(model: nn.Module, example: Any = None) -> str | None:
    """Path of the convolution that the image meets first; None where it meets none."""
    trace = _traced(model, example)
    waiting, seen = [index for index, value in enumerate(trace.values) if value.op < 0], set()
    while waiting:
        value = waiting.pop(0)
        if value in seen:
            continue
        seen.add(value)
        for user in trace.users(value):
            op = trace.ops[user]
            if op.name == "convolution":
                return trace.calls[op.call].path
            waiting += op.outputs
    return None


def _layer(model: nn.Module, path: str) -> nn.Linear | nn.Conv2d:
    layer = model.get_submodule(path)
    assert isinstance(layer, Layer)
    return layer


def _alike(old: nn.Linear | nn.Conv2d, outputs: int) -> nn.Module:
    """A fresh layer like `old` with so many outputs, where and of what `old` is."""
    weight, bias = old.weight, old.bias is not None
    where: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(old, nn.Conv2d):
        new: nn.Module = nn.Conv2d(weight.shape[1], outputs, 1, bias=bias, **where)
    else:
        new = nn.Linear(weight.shape[1], outputs, bias=bias, **where)
    return new.train(old.training)
