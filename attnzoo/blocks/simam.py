"""SimAM: a gate for every value, from how far it stands out in its channel. No parameters.

Source: L. Yang, R.-Y. Zhang, L. Li, X. Xie, "SimAM: A Simple, Parameter-Free Attention Module for
Convolutional Neural Networks", ICML 2021 (PMLR 139).
Shapes: x and gate (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from attnzoo import kernels
from attnzoo.blocks.gated import GatedByMap, MapGate
from attnzoo.blocks.parts import wide
from attnzoo.checks import check_int, check_number
from attnzoo.registry import register_block

__all__ = ["SimAM"]


class EnergyGate(MapGate):
    """x (N, C, H, W) → gate of the same shape, between 0.62 and 1."""

    def __init__(self, e_lambda: float) -> None:
        super().__init__()
        self.e_lambda = e_lambda

    again = False  # it is x

    def parts(self, x: Tensor) -> list[Tensor]:
        return [x]

    def how(self) -> Callable[..., Tensor]:
        return self.forward

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2] * x.shape[3]
        # size − 1, and 1 at 1×1, where the sum below is 0: without a branch on the size
        others = size - 1 + 1 // size
        values = wide(x)
        centred = values - kernels.mean(values, [2, 3])
        variance = kernels.squares(centred, [2, 3]) / others
        logits = kernels.quotient(centred.square(), 4 * (variance + self.e_lambda)).add_(0.5)
        return logits.sigmoid_().to(x.dtype)

    def extra_repr(self) -> str:
        return f"e_lambda={self.e_lambda}"


@register_block(
    "simam",
    kind="both",
    title="Simple, parameter-free attention",
    paper="Yang, Zhang, Li, Xie: SimAM (ICML 2021)",
    year=2021,
    maps={"gate": "both"},
    limits={
        "neutral": "It has no parameters, so no layer that could start at zero.",
    },
)
class SimAM(GatedByMap):
    """Gate for every value from its energy: what differs from its channel counts.

        d = (x − mean of x over H, W)²
        v = sum of d over H, W / (H·W − 1)
        gate = σ(d / (4·(v + λ)) + ½)     (N, C, H, W)
        y = x · gate

    The formula is that of the paper and of the authors' code. At 1×1, where
    H·W − 1 is 0, v is 0. Squares are computed in float32 at least.

    Parameters: 0.
    MACs: 0.

    Args:
        channels: C, at least 1.
        e_lambda: λ, a number of at least 1e-12.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import SimAM
        >>> SimAM(64, e_lambda=1e-4)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    kind = "simam"

    def __init__(self, channels: int, e_lambda: float = 1e-4) -> None:
        super().__init__()
        check_int("SimAM", "channels", channels, minimum=1)
        self.e_lambda = check_number("SimAM", "e_lambda", e_lambda, minimum=1e-12)
        self.gate = EnergyGate(self.e_lambda)

    def run_kernels(self, x: Tensor, gamma: Tensor | None, pool: tuple[str, bool]) -> Tensor:
        return kernels.apply_energy(x, gamma, self.e_lambda, pool)
