"""A map times its gates, with γ or without, in little memory.

    y = x · g                        g = g₁ · g₂ …, their sum, or made of its parts in another way
    y = x · (1 + γ·(g − 1))          with γ (C,)

Both are `y = x · (p·q + r)`, where p, q and r come from γ and the gates, and p and r are much
smaller than x. The backward pass keeps x, γ and the gates, or what these are made of, and computes
the rest again. γ = 0 gives x bit for bit, whatever x and the gates are: where 0·q is no number,
the factor is 1 all the same.

What records operations (a compiler, an exporter, `torch.func`) is given them one by one, with the
same numbers; it would stop at an operation that is differentiated by hand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.kernels.dispatch import is_exported, is_recorded
from attnzoo.kernels.images import at_once, in_turn
from attnzoo.kernels.recompute import Again, gradients, learning
from attnzoo.kernels.shapes import wide_dtype

__all__ = ["gated_map", "plus", "summed", "times"]

#: From the parts of a gate to the gate.
Make = Callable[..., Tensor]
Term = Tensor | float | None


def times(*gates: Tensor) -> Tensor:
    """Gates that are multiplied."""
    product = gates[0]
    for gate in gates[1:]:
        product = product * gate
    return product


def plus(*gates: Tensor) -> Tensor:
    """Gates that are added."""
    total = gates[0]
    for gate in gates[1:]:
        total = total + gate
    return total


def gated_map(
    x: Tensor,
    parts: Sequence[Tensor],
    gamma: Tensor | None = None,
    *,
    make: Make = times,
    module: nn.Module | None = None,
    scale: float = 1.0,
    groups: int | None = None,
) -> Tensor:
    """`x` times the gate that `make` makes of the parts, softened by γ.

    Args:
        x: (N, C, H, W).
        parts: gates that broadcast with x; for another `make` than `times` and `plus` whatever it
            takes.
        gamma: (C,), or None for x times its gate.
        make: from the parts to a new tensor that broadcasts with x. Called again, it must give
            the same.
        module: whose parameters `make` uses; None if it uses none.
        scale: times the gate.
        groups: of channels, where each has one gate: that is (N, groups, 1, H, W) then.
    """
    if groups is not None:
        soft = None if gamma is None else gamma.view(1, groups, -1, 1, 1)
        return _softened(x.unflatten(1, (groups, -1)), parts, soft, make, module, scale).flatten(
            1, 2
        )
    soft = None if gamma is None else gamma.view(1, -1, 1, 1)
    return _softened(x, parts, soft, make, module, scale)


def _softened(
    x: Tensor,
    parts: Sequence[Tensor],
    soft: Tensor | None,
    make: Make,
    module: nn.Module | None,
    scale: float,
) -> Tensor:
    """The same, with γ shaped as x is."""
    parameters = () if module is None else tuple(module.parameters())
    if is_recorded(x, soft, *parts, *parameters):
        exported = is_exported(x)
        one = len(parts) == 1 and isinstance(parts[0], Tensor) and parts[0].shape[1] == 1
        if exported and soft is not None and one:
            # coremltools takes p·q + r for a batch norm of q, as many channels as p and r have.
            return (x * (1 - soft * (1 - scale * make(*parts)))).to(x.dtype)
        return _formula(x, *_terms(x, soft, make, scale, *parts), None if exported else _shut(soft))
    if not learning(x, soft, *parts, *parameters):
        if x.is_meta and not torch.is_grad_enabled():  # no values that γ could soften; it is quick
            return torch.mul(x, make(*parts), out=torch.empty_like(x))
        p, q, r = _terms(x, soft, make, scale, *parts)
        if p is None and r is None and x.is_contiguous() and q.dtype == x.dtype:
            return x * q
        space = None if make in (times, plus) else q
        return _times_factor(x, x, p, q, r, _wild(soft, p, q), space)
    if make in (times, plus) and all(math.prod(t.shape[2:]) == 1 for t in parts):
        # One number a channel: what it is made of need not be kept instead.
        return _formula(x, *_terms(x, soft, make, scale, *parts), _shut(soft))
    again = Again(make, module)
    return _Gating.apply(again, scale, len(parts), x, soft, *parts, *parameters)


def _terms(
    x: Tensor, soft: Tensor | None, make: Make, scale: float, *parts: Tensor
) -> tuple[Term, Tensor, Tensor | None]:
    """Of p·q + r, where the gate is made of the parts: p, q and r."""
    p: Term = None if scale == 1.0 else scale
    r = None
    if soft is not None:
        if isinstance(x, Tensor):  # beside 1, a small γ would be lost in half precision
            soft = soft.to(wide_dtype(x.dtype))
        p, r = (soft if p is None else soft * p), 1 - soft
    if len(parts) == 1 or make not in (times, plus):
        return p, make(*parts), r
    first = make(*parts[:-1])
    first = first if p is None else p * first
    if make is times:
        return first, parts[-1], r
    return p, parts[-1], first if r is None else first + r


def _formula(x: Tensor, p: Term, q: Tensor, r: Tensor | None, shut: Tensor | None) -> Tensor:
    """y, in operations that can be recorded and differentiated."""
    factor = q if p is None else p * q
    if r is not None:
        factor = factor + r
    if shut is not None:
        factor = torch.where(shut & ~factor.isfinite(), 1, factor)
    return (x * factor).to(x.dtype)


def _times_factor(
    x: Tensor,
    given: Tensor,
    p: Term,
    q: Tensor,
    r: Tensor | None,
    shut: Tensor | None,
    space: Tensor | None = None,
) -> Tensor:
    """`given · (p·q + r)`, laid out as x and of the dtype of `given`.

    Args:
        x: the map that the factor is for.
        given: x, or the gradient of y.
        p: of the factor, as q and r.
        q: a gate, or what is left of it.
        r: what γ leaves of x.
        shut: where γ is zero and the factor is no number.
        space: a map that may be written over, q too.
    """
    axes = _axes_in_memory(x)
    if (
        space is not None
        and (space.shape, space.stride(), space.dtype) == (x.shape, x.stride(), given.dtype)
        # Torch refuses to change a view in place that was made where it could not see it.
        and not space._is_view()
    ):
        y = space
    else:
        y = torch.empty_like(x, dtype=given.dtype)
    terms: list[Any] = [y, given, p, q, r, shut]
    laid = [_laid(t, axes) if isinstance(t, Tensor) else t for t in terms]
    into = _fits(laid[0], laid[3], laid[2]), _fits(laid[0], laid[3], laid[2], laid[4])
    same = all(t.ndim == x.ndim for t in laid if isinstance(t, Tensor))
    for images in in_turn(at_once(laid[0]) if same else len(x), *laid):
        _write(into, *images)
    return y


def _write(
    into: tuple[bool, bool], out: Tensor, given: Tensor, p: Any, q: Any, r: Any, shut: Any
) -> None:
    """`given · (p·q + r)` into `out`, on the way there, too, as far as there is room in it."""
    factor = q
    if p is not None:
        factor = torch.mul(factor, p, out=out if into[0] else None)
    if r is not None:
        factor = torch.add(factor, r, out=out if into[1] else None)
    if shut is not None:
        factor = torch.where(shut, 1, factor)
    torch.mul(given, factor, out=out)


def _laid(t: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    return t if axes is None else t.permute(axes)


def _fits(out: Tensor, *terms: Term) -> bool:
    """Whether what is made of the terms is as large as `out`, and of its dtype."""
    tensors = [t for t in terms if isinstance(t, Tensor)]
    size = tuple(map(max, *(t.shape for t in tensors))) if len(tensors) > 1 else tensors[0].shape
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors))
    return out.shape == size and out.dtype == dtype


def _axes_in_memory(x: Tensor) -> tuple[int, ...] | None:
    """The axes as they lie in memory where that is not their order.

    Gates that broadcast do not say how they lie, and what is made of them would lie otherwise.
    """
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return (0, 2, 3, 1) if last and not x.is_contiguous() else None


def _wild(soft: Tensor | None, *terms: Term) -> Tensor | None:
    """Where γ is zero, if a factor may be no number there; only of a CPU's tensors it is asked."""
    if soft is None:
        return None
    tensors = [t for t in terms if isinstance(t, Tensor)]
    if any(type(t) not in (Tensor, nn.Parameter) or not t.is_cpu for t in (soft, *tensors)):
        return soft == 0
    tame = bool(soft.all()) or all(math.isfinite(t.sum().item()) for t in tensors)
    return None if tame else soft == 0


class _Gating(torch.autograd.Function):
    @staticmethod
    def forward(
        again: Again, scale: float, count: int, x: Tensor, soft: Tensor | None, *tensors: Tensor
    ) -> Tensor:
        again.remember(x)
        make = again.function
        p, q, r = _terms(x, soft, make, scale, *tensors[:count])
        space = None if make in (times, plus) else q
        return _times_factor(x, x, p, q, r, _wild(soft, p, q), space)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.again, ctx.scale, ctx.count, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # ty: ignore[incompatible-method-override]
        further, saved, count = torch.is_grad_enabled(), ctx.saved_tensors, 2 + ctx.count
        tensors, parameters = ctx.again.taken(saved[:count], saved[count:], further=further)
        (x, soft, *parts), inputs = tensors, [*tensors, *parameters]
        with ctx.again.later(parameters) as make:
            p, q, r = _terms(x, soft, make, ctx.scale, *parts)
            y = _formula(x, p, q, r, _shut(soft)) if further else None
        if y is not None:
            return None, None, None, *gradients([y], inputs, [g], further=True)
        factors: list[tuple[Term, Term]] = [(r, None), (p, q), (q, p)]
        pairs = [(t, f) for t, f in factors if isinstance(t, Tensor) and t.requires_grad]
        whole = x * g
        found: list[Tensor] = []
        for t, factor in pairs:
            spare = t is q and not any(one is whole for one in found)
            found.append(summed(whole, factor, t, spare=spare))
        dx = None
        if ctx.needs_input_grad[3]:
            taken = any(one is whole for one in found)
            dx = _times_factor(x, g, p, q, r, _wild(soft, p, q), None if taken else whole)
        rest = gradients([t for t, _ in pairs], inputs[1:], found, further=False)
        return None, None, None, dx, *rest


def _shut(soft: Tensor | None) -> Tensor | None:
    """Where γ is zero."""
    return None if soft is None else soft == 0


def summed(whole: Tensor, factor: Term, like: Tensor, *, spare: bool = False) -> Tensor:
    """The gradient of `like`, if `like · factor` has the gradient `whole`, a map.

    That may be written over if it is spare.
    """
    if isinstance(factor, Tensor):
        factor = factor.to(whole.dtype)
        result = _contracted(whole, factor, like.shape) if whole.is_cpu else None
        if result is not None:
            return result.to(like.dtype)
    if factor is not None:
        whole = whole.mul_(factor) if spare else whole * factor
    return whole.sum_to_size(like.shape).to(like.dtype)


def _contracted(whole: Tensor, factor: Tensor, shape: torch.Size) -> Tensor | None:
    """`(whole · factor).sum_to_size(shape)` as a matrix product, without a map for the other one.

    On a CPU only: CUDA's matrix products may be rounded otherwise, or not be the same twice.
    The factor stands to the left: a product of a matrix with a column takes ten times as long.

    Returns:
        None where the sum is no such product.
    """
    if factor.ndim != whole.ndim or len(shape) != whole.ndim:
        return None
    *leading, c, h, w = whole.shape
    kept, summed_over = tuple(shape[-3:]), tuple(factor.shape[-3:])
    if (summed_over, kept) == ((1, h, w), (c, 1, 1)):
        result = factor.flatten(-2) @ whole.flatten(-2).mT
    elif (summed_over, kept) == ((c, 1, 1), (1, h, w)):
        result = factor.flatten(-3).unsqueeze(-2) @ whole.flatten(-2)
    elif (summed_over, kept) == ((c, 1, w), (c, h, 1)):
        result = factor @ whole.mT
    else:
        return None
    return result.reshape(*leading, *kept).sum_to_size(shape)
