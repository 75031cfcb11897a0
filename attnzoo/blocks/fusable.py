"""The base of blocks for which there are fused kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from attnzoo import kernels

__all__ = ["Fusable"]


class Fusable(nn.Module, ABC):
    """A block that says its formula, and how the kernels compute it.

    The kernels run where they can (see `attnzoo.kernels.dispatch`), the formula elsewhere. A class
    that derives from a block has the formula only, since it may have changed it.
    """

    #: Which kernels; a class is given to them only if it names them itself.
    kind: ClassVar[str]

    @abstractmethod
    def formula(self, x: Tensor) -> Tensor:
        """The result in PyTorch's operations."""

    @abstractmethod
    def run_kernels(self, x: Tensor, gamma: Tensor | None, pool: tuple[str, bool]) -> Tensor | None:
        """The result from the kernels, with γ and a pool; None where they don't take the layers."""

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
        how = kernels.permits(self, x, gamma, pool)
        return None if how is None else self.run_kernels(x, gamma, how)
