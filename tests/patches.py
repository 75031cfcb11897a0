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

__all__ = ["onnx_registry_kept", "others_left_alone", "triton_prepared_once"]


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
