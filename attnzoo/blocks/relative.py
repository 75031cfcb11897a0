"""Relative positions for maps of any size: one learned vector for each distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RelativePositions"]


class RelativePositions(nn.Module):
    """A length L → vectors (L, L, d) for the distances from each place to each other one.

    Row i, column j holds the vector of the distance j − i; distances beyond ±span take that of
    the span, as in P. Shaw, J. Uszkoreit, A. Vaswani, "Self-Attention with Relative Position
    Representations", NAACL 2018, arXiv 1803.02155. A table of fixed length otherwise ties a network
    to one image size.
    """

    def __init__(self, span: int, width: int) -> None:
        super().__init__()
        self.span = span
        self.table = nn.Parameter(torch.empty(2 * span + 1, width))
        nn.init.normal_(self.table, std=width**-0.5)

    def forward(self, length: int | torch.SymInt) -> Tensor:
        places = torch.arange(length, device=self.table.device)
        distance = (places - places[:, None]).clamp(-self.span, self.span) + self.span
        rows = torch.arange(2 * self.span + 1, device=self.table.device)
        # A product with one-hot rows, not a look-up: the backward pass of a look-up adds up in
        # an order that changes from run to run.
        return (distance[:, :, None] == rows).to(self.table.dtype) @ self.table

    def extra_repr(self) -> str:
        return f"span={self.span}, width={self.table.shape[1]}"
