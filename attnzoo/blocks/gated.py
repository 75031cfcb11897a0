"""The base of blocks that are x times a channel and a spatial gate from 1×1 convolutions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from attnzoo import kernels
from attnzoo.blocks.fusable import Fusable

__all__ = ["Gated"]


class Gated(Fusable):
    """A block whose gates the kernels compute themselves, from the weights of its layers.

    Its `kind` is a name of `attnzoo.kernels.shapes.KINDS`.
    """

    @abstractmethod
    def layers(self) -> tuple[Any, ...]:
        """The convolutions of the gates, in the order that the kind says."""

    def run_kernels(self, x: Tensor, gamma: Tensor | None, pool: tuple[str, bool]) -> Tensor | None:
        return kernels.apply_layers(self.kind, self.layers(), x, gamma, pool)
