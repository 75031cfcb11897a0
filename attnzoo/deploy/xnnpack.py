"""What XNNPACK leaves out, in operations that it takes: each would cut a program in two.

Of reductions it knows the mean of a map over height and width, and windows. So what is reduced is
seen as (N, C, H, W): along both sides, along one, or, where it is the channels, by a convolution
for the mean and by halves for the maximum. The numbers are the same but for the rounding of sums.
Shapes are fixed: ExecuTorch 1.5 with XNNPACK plans its memory for one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["REWRITTEN"]

_SIDES = (2, 3)


class _Kind(ABC):
    """One way to make one number of many."""

    @abstractmethod
    def window(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, C, H, W) → (N, C, H / rows, W / columns)."""

    @abstractmethod
    def channels(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, 1, H, W)."""


class _Mean(_Kind):
    def window(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if size == tuple(x.shape[2:]):
            return x.mean(_SIDES, keepdim=True)
        return F.avg_pool2d(x, size)

    def channels(self, x: Tensor) -> Tensor:
        count = x.shape[1]
        weights = torch.full((1, count, 1, 1), 1 / count, dtype=x.dtype, device=x.device)
        return F.conv2d(x, weights)


class _Maximum(_Kind):
    def window(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.max_pool2d(x, size)

    def channels(self, x: Tensor) -> Tensor:
        while (count := x.shape[1]) > 1:
            half = (count + 1) // 2  # of an odd count, one is in both
            x = torch.maximum(x[:, :half], x[:, count - half :])
        return x


def _reduced(kind: _Kind, x: Tensor, dim: Sequence[int] | None, keepdim: bool) -> Any:
    """The reduction in operations of 4-D maps; NotImplemented where it stays what it is."""
    dims = sorted(d % x.ndim for d in (dim or range(x.ndim)))
    sizes = list(x.shape)
    fixed = all(isinstance(size, int) for size in sizes)
    together = bool(dims) and dims == list(range(dims[0], dims[-1] + 1))
    if not (fixed and together and x.is_floating_point() and x.numel()):
        return NotImplemented
    count = math.prod(sizes[d] for d in dims)
    kept = [1 if d in dims else size for d, size in enumerate(sizes)]
    shape = kept if keepdim else [size for d, size in enumerate(sizes) if d not in dims]
    if count == 1:
        return x.reshape(shape).clone()
    if x.ndim == 4 and dims == [1]:
        return _viewed(kind.channels(x), shape)
    if x.ndim != 4 or dims[0] < 2:
        before, after = math.prod(sizes[: dims[0]]), math.prod(sizes[dims[-1] + 1 :])
        x, dims = x.reshape(1, before, count, after), [2]
    window = (x.shape[2] if 2 in dims else 1, x.shape[3] if 3 in dims else 1)
    return _viewed(kind.window(x, window), shape)


def _viewed(y: Tensor, shape: list[int]) -> Tensor:
    return y if list(y.shape) == shape else y.reshape(shape)


def _mean(x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    known = x.ndim == 4 and keepdim and {d % 4 for d in dim or ()} == set(_SIDES)
    if known or dtype not in (None, x.dtype):
        return NotImplemented
    return _reduced(_Mean(), x, dim, keepdim)


def _sum(x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if dtype not in (None, x.dtype):
        return NotImplemented
    mean = _reduced(_Mean(), x, dim, keepdim)
    if mean is NotImplemented:
        return mean
    return mean * float(x.numel() // mean.numel())


def _amax(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    return _reduced(_Maximum(), x, dim, keepdim)


def _var(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    dims = list(dim or range(x.ndim))
    count = math.prod(x.shape[d] for d in dims)
    mean = (x - x.mean(dims, keepdim=True)).square().mean(dims, keepdim=keepdim)
    others = count - (1 if correction is None else correction)
    return mean * (count / others if others > 0 else math.nan)  # as torch has it


def _var_mean(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:
    mean = x.mean(list(dim or range(x.ndim)), keepdim=keepdim)
    return _var(x, dim, correction=correction, keepdim=keepdim), mean


def _std(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    return _var(x, dim, correction=correction, keepdim=keepdim).sqrt()


def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    values = x.reshape(x.shape[0], groups, -1, 1)
    values = values - values.mean(_SIDES, keepdim=True)
    scale = (values.square().mean(_SIDES, keepdim=True) + eps).rsqrt()
    y = (values * scale).reshape(x.shape)
    shape = (1, -1, *[1] * (x.ndim - 2))
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _unsqueeze(x: Tensor, dim: int) -> Tensor:
    dim %= x.ndim + 1
    return x.reshape([*x.shape[:dim], 1, *x.shape[dim:]])


def _squeeze(x: Tensor, dim: int) -> Tensor:
    dim %= x.ndim
    return x.reshape([*x.shape[:dim], *x.shape[dim + 1 :]]) if x.shape[dim] == 1 else x


def _select(x: Tensor, dim: int, index: int) -> Tensor:
    return x.narrow(dim, index % x.shape[dim], 1).squeeze(dim)


def _stack(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.cat([part.unsqueeze(dim) for part in parts], dim)


def _same(x: Tensor, dtype: torch.dtype, *_: Any) -> Any:
    """A conversion to the dtype that it has is none."""
    return x if x.dtype == dtype else NotImplemented


#: Operation → how it is written, as `ExportedProgram.run_decompositions` takes them.
REWRITTEN: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.mean.dim: _mean,
    torch.ops.aten.sum.dim_IntList: _sum,
    torch.ops.aten.amax.default: _amax,
    torch.ops.aten.var.correction: _var,
    torch.ops.aten.var_mean.correction: _var_mean,
    torch.ops.aten.std.correction: _std,
    torch.ops.aten.group_norm.default: _group_norm,
    torch.ops.aten.unsqueeze.default: _unsqueeze,
    torch.ops.aten.squeeze.dim: _squeeze,
    torch.ops.aten.select.int: _select,
    torch.ops.aten.stack.default: _stack,
    torch.ops.aten.to.dtype: _same,
}
