"""Families of operations: which are linear, and which work element by element.

What is linear is known and written down here. All else is a non-linearity, for activations are
invented: a comparison, a table, a surrogate with a spike, an operation of somebody's own.
"""

from __future__ import annotations

import functools
import math

import torch

from attnzoo.tracing import Op, Trace

__all__ = ["is_linear", "looks_up", "passes", "statistic"]


def _words(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


_VIEWS = (
    "view _unsafe_view reshape expand unsqueeze squeeze flatten unflatten unbind select slice "
    "split split_with_sizes chunk narrow permute transpose t as_strided diagonal alias detach "
    "movedim swapaxes contiguous clone copy"
)
_MOVES = (
    "cat stack flip roll repeat index index_select gather constant_pad_nd reflection_pad1d "
    "reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d "
    "im2col col2im pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle "
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d "
    "_upsample_bicubic2d_aa upsample_trilinear3d max_unpool2d max_unpool3d"
)
_SUMS = (
    "add sub rsub neg sum mean cumsum fill native_dropout dropout fake_quantize_per_tensor_affine "
    "fake_quantize_per_channel_affine _fft_r2c _fft_c2r _fft_c2c view_as_real view_as_complex"
)
_POOLS = (
    "max_pool2d_with_indices max_pool2d avg_pool2d max_pool3d_with_indices avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool2d adaptive_max_pool2d "
    "adaptive_max_pool3d"
)
_NORMS = (
    "native_batch_norm _native_batch_norm_legit native_group_norm native_layer_norm "
    "_fused_rms_norm cudnn_batch_norm"
)
#: They make numbers of their own, of a shape they are shown.
_CONSTANTS = _words(
    "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty"
)

#: Linear whatever they are given; a pool and a norm count as such, for a branch of a convolution
#: with either is a linear layer to those who design networks.
_LINEAR = _CONSTANTS | _words(_VIEWS, _MOVES, _SUMS, _POOLS, _NORMS)

#: Linear in each factor: no longer if two of them depend on the input.
_PRODUCTS = _words("mul convolution linear mm addmm bmm baddbmm addbmm matmul mv dot einsum div")

#: Element by element, or along one axis as an activation is, though torch does not tag them so.
_ELEMENTWISE = _words(
    "hardswish _prelu_kernel prelu rrelu_with_noise log_sigmoid_forward _softmax softmax cat slice "
    "split split_with_sizes chunk narrow select contiguous permute transpose native_dropout "
    "dropout alias detach _to_copy fake_quantize_per_tensor_affine "
    "fake_quantize_per_channel_affine"
)

#: That turn a sum of squares into a factor: x · rsqrt(mean(x²)) is a norm and no gate.
_INVERSES = frozenset({"rsqrt", "reciprocal"})

_SAME_VALUES = _words("expand clone view _unsafe_view unsqueeze alias")


@functools.cache
def passes(name: str) -> bool:
    """Whether an operation hands a feature map on: element by element, in parts, or joined."""
    if name in _ELEMENTWISE:
        return True
    overloads = getattr(torch.ops.aten, name, None)
    tags = (getattr(overloads, one).tags for one in overloads.overloads()) if overloads else ()
    return any(torch.Tag.pointwise in tag for tag in tags)


def looks_up(name: str) -> bool:
    """Whether an operation is a product of matrices, as attention between positions takes two."""
    return name in ("bmm", "baddbmm", "mm") or "scaled_dot_product" in name


def is_linear(trace: Trace, op: Op) -> bool:
    """Whether an operation is known to be linear in what depends on the model's input.

    Products of two such values are not: gates. A division by a statistic, or the product with
    its inverse, is a norm.
    """
    if op.name in _LINEAR:
        return True
    if op.name == "_to_copy":
        dtypes = {trace.values[value].layout[2] for value in (*op.inputs, *op.outputs)}
        return all(dtype.is_floating_point or dtype.is_complex for dtype in dtypes)
    if op.name == "where":  # with a mask that is a constant
        return all(trace.values[value].layout[2] != torch.bool for value in op.inputs)
    if op.name in ("addcmul", "lerp"):
        return len(op.inputs) < 3 and len(set(op.inputs)) == len(op.inputs)
    if op.name in _PRODUCTS:
        factors = [value for value in op.inputs if not _is_constant(trace, value)]
        return len(factors) < 2 or statistic(trace, op) is not None
    return False


def _is_constant(trace: Trace, value: int) -> bool:
    made_by = trace.values[value].op
    return made_by >= 0 and trace.ops[made_by].name in _CONSTANTS


def statistic(trace: Trace, op: Op) -> int | None:
    """The value that `op` norms another one by: as a divisor, or as the factor 1/√…; else None.

    It has fewer elements than what is normed, as a mean over positions or channels has.
    """
    if op.name not in ("div", "mul") or len(set(op.inputs)) != 2:
        return None
    normed, by = op.inputs
    if op.name == "div":
        return by if _size(trace, by) < _size(trace, normed) else None
    for value, other in ((by, normed), (normed, by)):
        made_by = trace.values[_unexpanded(trace, value)].op
        inverse = made_by >= 0 and trace.ops[made_by].name in _INVERSES
        if inverse and _size(trace, value) < _size(trace, other):
            return value
    return None


def _size(trace: Trace, value: int) -> int:
    return math.prod(trace.values[_unexpanded(trace, value)].shape)


def _unexpanded(trace: Trace, value: int) -> int:
    """The value before it was written out to the shape of another one."""
    while (made_by := trace.values[value].op) >= 0:
        op = trace.ops[made_by]
        if op.name not in _SAME_VALUES:
            break
        value = op.inputs[0]
    return value
