"""What the tests change in other libraries, or keep others from changing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

__all__ = [
    "draw_large_weights_quickly",
    "onnx_registry_kept",
    "others_left_alone",
    "triton_prepared_once",
]

#: Weights of this many values and more come from as many numbers that are drawn once.
_LARGE, _DRAWN = 2**14, 2**20


def draw_large_weights_quickly() -> None:
    """Let networks be built from numbers that this process has drawn already.

    PyTorch draws a value at a time, which is slow. The seed still decides, by where among the
    numbers a weight begins.
    """
    generator = torch.Generator().manual_seed(0)
    for draw in (torch.Tensor.uniform_, torch.Tensor.normal_):
        numbers = draw(torch.empty(_DRAWN), generator=generator).repeat(2)
        setattr(torch.Tensor, draw.__name__, _taking(numbers, draw))


def _taking(numbers: torch.Tensor, draw: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    spread = {"uniform_": lambda low, high: high - low, "normal_": lambda mean, std: std}

    @functools.wraps(draw)
    def take(tensor: torch.Tensor, *args: float, **options: Any) -> torch.Tensor:
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
        plain = plain and tensor.dtype == torch.float32 and tensor.is_contiguous()
        plain = plain and not (torch.is_grad_enabled() and tensor.requires_grad)
        known = not [name for name, value in options.items() if value is not None]
        if not plain or not known or tensor.numel() < _LARGE:
            return draw(tensor, *args, **options)
        first, second = (*args, *(0.0, 1.0)[len(args) :])
        scale = spread[draw.__name__](first, second)
        for part in tensor.view(-1).split(_DRAWN):
            begin = int(torch.randint(_DRAWN, ()))
            torch.mul(numbers[begin : begin + len(part)], scale, out=part).add_(first)
        return tensor

    return take


@contextmanager
def others_left_alone() -> Iterator[None]:
    """Afterwards numpy prints, Pillow opens and torch saves as before.

    Importing ultralytics changes these for the whole process.
    """
    with (
        np.printoptions(),
        mock.patch.object(Image, "open", Image.open),
        mock.patch.object(torch, "save", torch.save),
    ):
        yield


@contextmanager
def onnx_registry_kept() -> Iterator[None]:
    """PyTorch's ONNX exporter reads its 500 translations once, not at every export."""
    with mock.patch.object(_registry_class(), "from_torchlib", return_value=_onnx_registry()):
        yield


@contextmanager
def triton_prepared_once() -> Iterator[None]:
    """Triton's interpreter prepares its language for every kernel, not for every helper in one.

    It looks through some hundred names each time, a seventh of the time of the kernels' tests.
    """
    from triton import language
    from triton.runtime import interpreter

    prepare = interpreter._patch_lang
    within = SimpleNamespace(restore=lambda: None)  # the kernel around it takes everything back

    @functools.cache
    def languages(function: Callable[..., Any]) -> list[Any]:
        known = function.__globals__.values()
        return [module for module in (language, language.core) if any(v is module for v in known)]

    def prepare_once(function: Callable[..., Any]) -> Any:
        ready = not any(language.core.is_builtin(module.load) for module in languages(function))
        return within if ready else prepare(function)

    with mock.patch.object(interpreter, "_patch_lang", prepare_once):
        yield


@functools.cache
def _onnx_registry() -> Any:
    return _registry_class().from_torchlib()


def _registry_class() -> Any:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return ONNXRegistry
