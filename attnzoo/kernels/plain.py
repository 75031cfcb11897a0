"""The formulas of the fused kernels in PyTorch's own operations.

They give the second derivatives, which no kernel is written for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnzoo.kernels.shapes import KINDS, wide_dtype

__all__ = ["energy", "gate_maps", "gated", "pixels", "planes"]


def gated(
    x: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor | None,
    kind: str,
    pool: str,
    ceil: bool,
    scale: float = 1.0,
) -> Tensor:
    """The map times its gates, softened by γ where there is one, then pooled if asked."""
    spec = KINDS[kind]
    weights = [weight.to(x.dtype) for weight in weights]
    mean = x.mean((2, 3), keepdim=True)
    if spec.channel == 1:
        (kernel,) = weights[:1]
        logit = F.conv1d(mean[:, None, :, 0, 0], kernel, padding=kernel.shape[2] // 2)
        gate = logit.sigmoid().transpose(1, 2).unsqueeze(-1)
    else:
        gate = _perceptron(mean, weights[:4])
    gate = gate * scale
    if spec.spatial:
        spatial = _perceptron(x, weights[spec.channel :])
        gate = gate + spatial if spec.add else gate * spatial
    return _softened(x, x * gate, gamma, pool, ceil)


def energy(x: Tensor, gamma: Tensor | None, e_lambda: float, pool: str, ceil: bool) -> Tensor:
    """The map times SimAM's gate, softened by γ where there is one, then pooled if asked."""
    values = x.to(wide_dtype(x.dtype))
    distance = (values - values.mean((2, 3), keepdim=True)).square()
    variance = distance.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
    gate = torch.sigmoid(distance / (4 * (variance + e_lambda)) + 0.5)
    return _softened(x, x * gate.to(x.dtype), gamma, pool, ceil)


def planes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and maximum of every plane, and a zero that passes the gradient of x on."""
    return x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True), x - x.detach()


def pixels(x: Tensor, later: Tensor | None, channel: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and maximum over C of the map times its channel gate, and the same zero again."""
    x = x if later is None else x + later
    z = x if channel is None else (x * channel).to(x.dtype)
    statistics = torch.cat([z.mean(1, keepdim=True), z.amax(1, keepdim=True)], dim=1)
    return statistics, x - x.detach()


def gate_maps(
    x: Tensor,
    later: Tensor | None,
    channel: Tensor | None,
    spatial: Tensor,
    gamma: Tensor | None,
    pool: str,
    ceil: bool,
) -> Tensor:
    """The map times its gates, softened by γ where there is one, then pooled if asked."""
    x = x if later is None else x + later
    y = x if channel is None else x * channel
    return _softened(x, (y * spatial).to(x.dtype), gamma, pool, ceil)


def _softened(x: Tensor, y: Tensor, gamma: Tensor | None, pool: str, ceil: bool) -> Tensor:
    if gamma is not None:
        y = torch.addcmul(x, gamma.to(x.dtype).view(1, -1, 1, 1), x - y, value=-1)
    if pool == "max":
        return F.max_pool2d(y, 2, ceil_mode=ceil)
    return F.avg_pool2d(y, 2, ceil_mode=ceil) if pool else y


def _perceptron(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """σ of one 1×1 convolution, or of two with a ReLU between."""
    x = F.conv2d(x, weights[0].flatten(1)[:, :, None, None], weights[1])
    if len(weights) > 2:
        x = F.conv2d(x.relu(), weights[2].flatten(1)[:, :, None, None], weights[3])
    return x.sigmoid()
