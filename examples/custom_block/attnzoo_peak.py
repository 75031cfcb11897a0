"""A block and a policy for attnzoo, found by the entry points in pyproject.toml."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import attnzoo
from attnzoo.errors import OptionError

__all__ = ["PeakAttention", "after_stride"]


class PeakGate(nn.Module):
    """x (N, C, H, W) → gate (N, C, 1, 1), from each channel's maximum."""

    def __init__(self, channels: int, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(
            self.sharpness * self.weight * x.amax((2, 3), keepdim=True) + self.bias
        )


@attnzoo.register_block(
    "peak",
    kind="channel",
    title="Peak attention",
    paper="an example of attnzoo",
    maps={"gate": "channel"},
)
class PeakAttention(nn.Module):
    """Scales each channel by a gate that looks at its largest value.

        gate = σ(s · w · max over H, W of x + b)     (N, C, 1, 1)
        y = x · gate

    Parameters: 2·C.
    MACs: 0.

    Args:
        channels: C, at least 1.
        sharpness: s, how steep the gate is.

    Raises:
        OptionError: if `sharpness` is not a number.
    """

    def __init__(self, channels: int, sharpness: float = 1.0) -> None:
        super().__init__()
        is_number = isinstance(sharpness, int | float) and not isinstance(sharpness, bool)
        if not is_number or not math.isfinite(sharpness):
            raise OptionError(f"PeakAttention: sharpness={sharpness!r} must be a number.")
        self.gate = PeakGate(channels, sharpness)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).to(x.dtype)


@attnzoo.register_policy(
    "after-stride", source="an example of attnzoo", looks_for="convolutions with a stride"
)
def after_stride(trace):
    """After every convolution that returns a smaller map than it takes."""
    return [
        trace.after(call) for call in trace.calls if call.type == "Conv2d" and shrinks(trace, call)
    ]


def shrinks(trace, call) -> bool:
    taken, returned = trace.values[call.inputs[0]], trace.values[call.outputs[0]]
    return taken.is_map and returned.is_map and returned.height < taken.height
