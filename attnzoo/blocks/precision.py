"""Keeping attention exact: logits in float32, and a residual sum that starts from the identity.

Products of two activations leave float16's range at magnitudes that each of them bears, and in
bfloat16 a logit near 100 is rounded by up to a quarter, which is off by as much after the softmax.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attnzoo import kernels
from attnzoo.blocks.parts import saturate, wide

__all__ = ["add_residual", "softmax", "without_autocast"]


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which products of `wide` tensors stay as wide as they are."""
    kind = x.device.type
    # Autocast knows no meta device; and where it is off, exporters need not see a context.
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax that is computed in float32 for half precision and returned in the logits' dtype."""
    return F.softmax(wide(logits), dim).to(logits.dtype)


def add_residual(x: Tensor, change: Tensor) -> Tensor:
    """`x + change` in the dtype and memory format of x.

    Where the change is zero, of either sign, the result is x bit for bit. An exported program just
    adds: LiteRT 2.3 takes a number minus a map for the map minus the number.
    """
    if not torch.jit.is_scripting() and kernels.is_exported(x):
        return saturate(x + change.to(x.dtype))
    return saturate(kernels.added(x, change.to(x.dtype)))
