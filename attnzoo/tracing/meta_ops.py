"""Shapes of the results of operations, worked out by rules or remembered.

On meta tensors torch computes some shapes through long Python decompositions (0.6 ms for one
batch norm). The rules here give those of the most frequent operations some hundred times faster;
a rule answers None for any case it does not know. Then torch's own implementation is asked, once:
networks repeat their blocks, and what an operation made of the same shapes is remembered.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnzoo.tracing.draws import Draws
from attnzoo.tracing.interrupts import answer
from attnzoo.tracing.values import Values

__all__ = ["META", "FastShapes", "Layout", "layout_of", "tensor_of"]

aten = torch.ops.aten

META = torch.device("meta")

#: Shape, strides and dtype: all that can be told of a tensor on meta.
Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


def layout_of(tensor: Tensor) -> Layout:
    """Shape, strides (none of a sparse tensor) and dtype."""
    strides = tensor.stride() if tensor.layout is torch.strided else ()
    return tuple(tensor.shape), strides, tensor.dtype


def tensor_of(layout: Layout) -> Tensor:
    """A new tensor on meta."""
    shape, strides, dtype = layout
    return torch.empty_strided(shape, strides, dtype=dtype, device=META)


def _empty(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=META)


def _same(x: Tensor, *_: Any) -> Tensor | None:
    if not (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)):
        return None  # a slice or an expanded tensor: the result has strides of its own
    # `empty_like` on meta takes 0.2 ms, this 2 µs
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)


def _floating(x: Tensor, *_: Any) -> Tensor | None:
    return _same(x) if x.is_floating_point() else None  # of integers torch makes floats


def _itself(x: Tensor, *_: Any) -> Tensor:
    return x


def _binary(x: Tensor, y: Any, *_: Any) -> Tensor | None:
    if not isinstance(y, Tensor):
        exact = isinstance(y, int) or x.is_floating_point()
        return _same(x) if exact and not isinstance(y, bool) else None
    if x.dtype != y.dtype or x.ndim != y.ndim:
        return None
    if x.shape == y.shape:
        return _same(x)
    if any(a != b and a != 1 and b != 1 for a, b in zip(x.shape, y.shape, strict=True)):
        return None
    return _empty([b if a == 1 else a for a, b in zip(x.shape, y.shape, strict=True)], x)


def _equal(x: Tensor, y: Any) -> Tensor | None:
    return torch.empty(x.shape, dtype=torch.bool, device=META) if x.is_contiguous() else None


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
    """A number here and there in a map."""
    number = x.ndim == 0 < y.ndim and y.is_floating_point() and not x.is_complex()
    sizes = zip(reversed(condition.shape), reversed(y.shape), strict=False)
    within = condition.ndim <= y.ndim and all(size in (1, whole) for size, whole in sizes)
    return _same(y) if number and within and y.is_contiguous() else None


def _divide(x: Tensor, y: Any, *_: Any) -> Tensor | None:
    return _binary(x, y) if x.is_floating_point() else None


def _binary_in_place(x: Tensor, y: Any, *_: Any) -> Tensor | None:
    if isinstance(y, Tensor) and (x.shape != y.shape or x.dtype != y.dtype):
        return None
    return x


def _binary_into(x: Tensor, y: Any, *, out: Tensor) -> Tensor | None:
    number = isinstance(y, Tensor) and y.ndim == 0 and not y.is_complex()
    scaled = number and x.ndim > 0 and x.is_floating_point()
    result = x if scaled else _binary(x, y)
    fits = result is not None and result.shape == out.shape and result.dtype == out.dtype
    return out if fits else None


def _addcmul(x: Tensor, y: Tensor, z: Tensor, *, value: Any = 1) -> Tensor | None:
    product = _binary(y, z)
    same = product is not None and product.shape == x.shape and product.dtype == x.dtype
    return _same(x) if same else None


def _mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor | None:
    if not dims or not x.is_floating_point() or any(not -x.ndim <= d < x.ndim for d in dims):
        return None
    reduced = {d % x.ndim for d in dims}
    sizes = [(1 if d in reduced else size) for d, size in enumerate(x.shape)]
    kept = [size for d, size in enumerate(sizes) if keepdim or d not in reduced]
    return _empty(kept, x)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    spatial = weight.shape[2:]
    if transposed or x.ndim != weight.ndim or x.shape[1] != weight.shape[1] * groups:
        return None
    if x.dtype != weight.dtype or not len(stride) == len(padding) == len(dilation) == len(spatial):
        return None
    sizes = [
        (size + 2 * pad - dil * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, dil in zip(
            x.shape[2:], spatial, stride, padding, dilation, strict=True
        )
    ]
    if min(sizes) < 1:
        return None
    return _empty((x.shape[0], weight.shape[0], *sizes), x)


def _batch_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    y = _same(x)
    return None if y is None else (y, _no_statistics(x.dtype), _no_statistics(x.dtype))


@functools.cache
def _no_statistics(dtype: torch.dtype) -> Tensor:
    """What batch norm in eval mode returns besides; a network has hundreds of them."""
    return torch.empty(0, dtype=dtype, device=META)


def _layer_norm(x: Tensor, shape: Sequence[int], *_: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    if tuple(x.shape[-len(shape) :]) != tuple(shape):
        return None
    kept = (*x.shape[: x.ndim - len(shape)], *(1 for _ in shape))
    y = _same(x)
    return None if y is None else (y, _empty(kept, x), _empty(kept, x))


def _addmm(bias: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[0] or x.dtype != y.dtype:
        return None
    return _empty((x.shape[0], y.shape[1]), x)


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    if not first.ndim:
        return None
    shape, dtype = list(first.shape), first.dtype
    axis = dim % first.ndim
    for tensor in tensors[1:]:
        other = list(tensor.shape)
        if tensor.dtype != dtype or len(other) != len(shape):
            return None
        joined, other[axis] = shape[axis] + other[axis], shape[axis]
        if other != shape:
            return None
        shape[axis] = joined
    return _empty(shape, first)


def _new(size: Sequence[int], **options: Any) -> Tensor | None:
    """Batch norm asks for one each time, empty."""
    known = {"dtype", "layout", "device"}.issuperset(options)
    if not known or options.get("layout", torch.strided) is not torch.strided:
        return None
    return torch.empty(size, dtype=options.get("dtype"), device=options.get("device"))


_UNARY = "relu gelu silu sigmoid hardtanh hardswish hardsigmoid leaky_relu elu mish tanh clone"
_UNARY_IN_PLACE = "relu_ silu_ sigmoid_ hardtanh_ hardswish_ hardsigmoid_ leaky_relu_ elu_ mish_"

#: Overload → function of the same arguments that returns empty results or None.
#: Some (`rsub`, those with `out=`) are not frequent, but asked of torch load its compiler.
SHAPE_RULES: dict[Any, Callable[..., Any]] = {
    aten.convolution.default: _convolution,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.addmm.default: _addmm,
    aten.cat.default: _cat,
    aten.addcmul.default: _addcmul,
    aten.empty.memory_format: _new,
    aten.mean.dim: _mean,
    **{getattr(aten, name).Tensor: _binary for name in ("add", "sub", "mul")},
    aten.div.Tensor: _divide,
    aten.rsub.Scalar: _binary,
    aten.eq.Scalar: _equal,
    aten.where.self: _where,
    **{getattr(aten, name).out: _binary_into for name in ("add", "sub", "mul")},
    **{getattr(aten, name).Tensor: _binary_in_place for name in ("add_", "sub_", "mul_", "div_")},
    **{getattr(aten, name).default: _floating for name in _UNARY.split()},
    **{getattr(aten, name).default: _itself for name in _UNARY_IN_PLACE.split()},
}


#: The rules that know keywords.
_TAKE_KEYWORDS = frozenset(
    {aten.addcmul.default, aten.empty.memory_format, aten.add.out, aten.sub.out, aten.mul.out}
)


class _UnknownLayoutError(Exception):
    """A tensor that is not a plain one on meta."""


_REMEMBERED: dict[Any, list[Layout] | Layout] = {}
_LIMIT = 10_000  # entries, of some hundred bytes each


def _plain_layout(tensor: Tensor) -> Layout:
    if type(tensor) is not Tensor or not tensor.is_meta or tensor.layout is not torch.strided:
        raise _UnknownLayoutError
    return layout_of(tensor)


def _key(item: Any) -> Any:
    """What of an argument the shape of a result depends on."""
    if isinstance(item, Tensor):
        return _plain_layout(item)
    if isinstance(item, (list, tuple)):
        return tuple(map(_key, item))
    return type(item), item  # 1, 1.0 and True are equal


@functools.cache
def _is_function(func: Any) -> bool:
    """Whether it makes new tensors from others and leaves those alone."""
    schema = func._schema
    touched = any(value.alias_info is not None for value in (*schema.arguments, *schema.returns))
    takes_tensors = any("Tensor" in str(value.type) for value in schema.arguments)
    return bool(schema.returns) and takes_tensors and not touched


def _ask_once(func: Any, args: Any, kwargs: Any, draws: Draws) -> Any:
    """What torch says, or said before of arguments of the same shapes."""
    if not _is_function(func):
        return draws.run(func, args, kwargs)
    try:
        key = (func, _key(args), tuple((name, _key(value)) for name, value in kwargs.items()))
        layouts = _REMEMBERED.get(key)
    except (_UnknownLayoutError, TypeError):  # an argument that cannot be a key
        return draws.run(func, args, kwargs)
    if isinstance(layouts, list):
        return tuple(map(tensor_of, layouts))
    if layouts is not None:
        return tensor_of(layouts)
    result = func(*args, **kwargs)
    with contextlib.suppress(_UnknownLayoutError):
        if isinstance(result, Tensor):
            _REMEMBERED[key] = _plain_layout(result)
        elif isinstance(result, tuple) and all(isinstance(part, Tensor) for part in result):
            _REMEMBERED[key] = [_plain_layout(part) for part in result]
    if len(_REMEMBERED) > _LIMIT:
        _REMEMBERED.clear()
    return result


_IN_PLACE = frozenset({aten.index_put_.default, aten._index_put_impl_.default})
_BY_MASK = _IN_PLACE | {aten.index_put.default}


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype is torch.bool for index in indices)


@functools.cache
def _returns_numbers(func: Any) -> bool:
    """Whether it gives the program numbers, which decide what it does next."""
    returned = func._schema.returns
    return bool(returned) and not any("Tensor" in str(value.type) for value in returned)


def _leaves_meta(func: Any, tensor: Tensor, kwargs: Any) -> bool:
    """Whether a few numbers are brought to the host; a map that moves stays on meta."""
    if func is not aten._to_copy.default or tensor.ndim > 2:
        return False
    device = kwargs.get("device")
    return device is not None and torch.device(device).type == "cpu"


class FastShapes(TorchDispatchMode):
    """Runs operations on meta tensors by the rules, by memory, or by torch.

    Between two operations is where a forward pass may be interrupted. What it draws at random on
    the CPU, the process will draw again.
    """

    def __init__(self, values: Values | None = None) -> None:
        super().__init__()
        self.values = values or Values()
        self._draws = Draws()
        self._done = self.values.steps.append

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch wraps `__torch_dispatch__`, at a third of its time

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What the operation returns."""
        answer()
        result = None
        rule = SHAPE_RULES.get(func)
        if rule is not None and args[0] is not None:
            if not kwargs:
                result = rule(*args)
            elif func in _TAKE_KEYWORDS:
                result = rule(*args, **kwargs)
        if result is None:
            result = self._asked(func, args, kwargs or {})
        self._done((func, args, kwargs, result))
        return result

    def _asked(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What torch says, or, where a value is asked for, what is known of it."""
        if func in _BY_MASK and _has_mask(args[1]):
            return args[0] if func in _IN_PLACE else tensor_of(layout_of(args[0]))
        on_meta = bool(args) and isinstance(args[0], Tensor) and args[0].is_meta
        if on_meta and (_returns_numbers(func) or _leaves_meta(func, args[0], kwargs)):
            return self.values.answer(func, args, kwargs)
        return _ask_once(func, args, kwargs, self._draws)
