"""The operators as blocks call them, once `dispatch` has said that they can run.

x is (N, C, H, W); pool is what `dispatch.permits` returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.kernels.dispatch import fit
from attnzoo.kernels.energy import energy
from attnzoo.kernels.gates import gate_maps, pixels, planes
from attnzoo.kernels.operators import gated

__all__ = ["apply_energy", "apply_gates", "apply_layers", "reduce_pixels", "reduce_planes"]

#: A wider hidden layer would not fit a program's registers.
WIDEST = 1024
Pool = tuple[str, bool]


def apply_layers(
    kind: str,
    layers: Sequence[Any],
    x: Tensor,
    gamma: Tensor | None,
    pool: Pool,
    scale: float = 1.0,
) -> Tensor | None:
    """`x` times gates from 1×1 convolutions, softened by γ, then pooled.

    None where a layer has no bias, is not of x's device and dtype, or is too wide.

    Args:
        kind: a name of `attnzoo.kernels.shapes.KINDS`.
        layers: the block's convolutions, in the order that `KINDS` says.
        x: the map.
        gamma: (C,), or None for `y = x · gate`.
        pool: kind of pool, and whether it rounds up.
        scale: times the gates.
    """
    weights = [t for layer in layers for t in (layer.weight, layer.bias) if t is not None]
    whole = len(weights) == sum(2 if isinstance(layer, nn.Conv2d) else 1 for layer in layers)
    if not whole or not fit(x, weights):
        return None
    if weights[0].ndim == 4 and weights[0].shape[0] > WIDEST:
        return None
    return gated(x, weights, gamma, kind, *pool, 0, _learns(x, gamma, *weights), scale)[0]


def apply_energy(x: Tensor, gamma: Tensor | None, e_lambda: float, pool: Pool) -> Tensor:
    """`x` times SimAM's gate, softened by γ, then pooled."""
    return energy(x, gamma, e_lambda, *pool, 0, _learns(x, gamma))[0]


def reduce_planes(x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean and maximum over H and W, (N, C, 1, 1), and `later` for the next call on this x."""
    mean, maximum, _, later = planes(x, _learns(x))
    return mean, maximum, later if _learns(x) else None


def reduce_pixels(
    x: Tensor, later: Tensor | None, channel: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Mean and maximum over C of x · channel, (N, 2, H, W), and `later` for the next call."""
    values = x if later is None else x.detach()
    statistics, _, further = pixels(values, later, channel, _learns(x))
    return statistics, further if _learns(x) else None


def apply_gates(
    x: Tensor,
    later: Tensor | None,
    channel: Tensor | None,
    spatial: Tensor,
    gamma: Tensor | None,
    pool: Pool,
    scale: float = 1.0,
) -> Tensor:
    """`x` times its gates (N, C, 1, 1) and (N, 1, H, W), softened by γ, then pooled."""
    if scale != 1.0:
        spatial = spatial * scale
    values = x if later is None else x.detach()
    keep = _learns(x, channel, spatial, gamma)
    return gate_maps(values, later, channel, spatial, gamma, *pool, keep)[0]


def _learns(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
