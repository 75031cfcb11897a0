"""The base of blocks for which there are fused kernels: x times a channel and a spatial gate."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from attnzoo import kernels

__all__ = ["Gated"]


class Gated(nn.Module):
    """A block that says its formula, and where its weights are for the kernels.

    The kernels run where they can (see `attnzoo.kernels.dispatch`), the formula elsewhere. A class
    that derives from a block has the formula only, since it may have changed it.
    """

    #: A name of `attnzoo.kernels.shapes.KINDS`.
    kind: ClassVar[str]

    def formula(self, x: Tensor) -> Tensor:
        """The result in PyTorch's operations."""
        raise NotImplementedError

    def layers(self) -> tuple[Any, ...]:
        """The convolutions of the gates, in the order that the kind says."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            y = self.fused(x)
            if y is not None:
                return y
        return self.formula(x)

    def fused(
        self, x: Tensor, gamma: Tensor | None = None, pool: nn.Module | None = None
    ) -> Tensor | None:
        """The result from the kernels, γ and a pool included; None where they can't run."""
        if not kernels.takes(x) or "kind" not in type(self).__dict__:
            return None
        return kernels.fused(self, self.kind, self.layers(), x, gamma, pool)
