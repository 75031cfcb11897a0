"""What the tests change in other libraries, or keep others from changing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

__all__ = ["onnx_registry_kept", "others_left_alone"]


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


@functools.cache
def _onnx_registry() -> Any:
    return _registry_class().from_torchlib()


def _registry_class() -> Any:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return ONNXRegistry
