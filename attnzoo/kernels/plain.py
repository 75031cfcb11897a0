"""The formula of the fused kernels in PyTorch's own operations.

It gives the second derivatives, which no kernel is written for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnzoo.kernels.shapes import KINDS

__all__ = ["gated"]


def gated(
    x: Tensor, weights: Sequence[Tensor], gamma: Tensor | None, kind: str, pool: str, ceil: bool
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
    if spec.spatial:
        spatial = _perceptron(x, weights[spec.channel :])
        gate = gate + spatial if spec.add else gate * spatial
    y = x * gate
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
