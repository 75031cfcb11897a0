"""Results that are computed again in the backward pass, instead of what they were made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attnzoo.kernels.common import through_formula
from attnzoo.kernels.dispatch import is_recorded

__all__ = ["Autocast", "recomputed"]


class Autocast:
    """The autocast of a forward pass, for what is computed again in the backward pass."""

    def __init__(self, device: str) -> None:
        self.device = device
        # Autocast knows no meta device.
        self.known = device != "meta"
        self.enabled = self.known and torch.is_autocast_enabled(device)
        self.dtype = torch.get_autocast_dtype(device) if self.enabled else None

    def again(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The function, to be called as it was in the forward pass."""
        if not self.known or (not self.enabled and not torch.is_autocast_enabled(self.device)):
            return function

        def call(*tensors: Tensor) -> Tensor:
            with torch.autocast(self.device, self.dtype, enabled=self.enabled):
                return function(*tensors)

        return call


def recomputed(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function(*tensors)`, of which the backward pass keeps the tensors and nothing else.

    The function must give the same result when it is called again, and must not look at tensors
    that want a gradient other than these. What a compiler or an exporter records is the function's
    own operations.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if not wanted or is_recorded(*tensors):
        return function(*tensors)
    return _Recomputed.apply(function, *tensors)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.function, *tensors = inputs
        ctx.autocast = Autocast(output.device.type)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # ty: ignore[incompatible-method-override]
        return None, *gradients(ctx.autocast.again(ctx.function), ctx.saved_tensors, g)


def gradients(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], g: Tensor
) -> list[Tensor | None]:
    """Gradients of the tensors from that of `function(*tensors)`; differentiable where wanted."""
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        return through_formula(lambda *given: [function(*given)], tensors, [g], further=further)
