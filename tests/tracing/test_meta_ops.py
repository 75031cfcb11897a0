"""The rules for meta tensors agree with PyTorch's own, or leave the operation to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from attnzoo.tracing.meta_ops import SHAPE_RULES, FastShapes, layout_of
from attnzoo.tracing.probe import probe

aten = torch.ops.aten

sizes = st.integers(1, 6)
maps = st.tuples(sizes, sizes, st.integers(1, 9), st.integers(1, 9))
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8])


def _meta(shape: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def _layouts(x: Tensor, layout: str) -> Tensor:
    """`x` in one of the layouts that maps come in; the shape may change."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "slice":
        return x[:, ::2]
    if layout == "permuted":
        return x.permute(0, 2, 3, 1)
    if layout == "expanded":
        return x[:1].expand(3, -1, -1, -1)
    return x


layouts = st.sampled_from(["contiguous", "channels_last", "slice", "permuted", "expanded"])


def _agrees(func: Any, *args: Any, strides: bool = True) -> bool:
    """Whether the rule answers; if so, its answer has to be torch's."""
    mine = SHAPE_RULES[func](*args)
    if mine is None:
        return False
    theirs = func(*args)
    one, other = (mine, theirs) if isinstance(mine, Tensor) else (mine[0], theirs[0])
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    assert one.is_meta
    if strides:  # `view` later depends on them; those of axes of length 1 mean nothing
        long = [axis for axis, size in enumerate(other.shape) if size > 1]
        assert [one.stride(a) for a in long] == [other.stride(a) for a in long]
    return True


@given(
    shape=maps,
    out=sizes,
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.integers(1, 3),
    bias=st.booleans(),
)
def test_convolution(
    shape: Any, out: int, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int,
    bias: bool,
) -> None:  # fmt: skip
    n, c, h, w = shape
    args = (
        _meta((n, c * groups, h, w)),
        _meta((out * groups, c, *kernel)),
        _meta((out * groups,)) if bias else None,
        list(stride),
        list(padding),
        list(dilation),
        False,
        [0, 0],
        groups,
    )
    fits = all(
        s + 2 * p >= d * (k - 1) + 1
        for s, k, p, d in zip((h, w), kernel, padding, dilation, strict=True)
    )
    assert _agrees(aten.convolution.default, *args) == fits


def test_a_convolution_that_cannot_be_is_left_to_torch() -> None:
    rest = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    rule = SHAPE_RULES[aten.convolution.default]
    assert rule(_meta((1, 3, 8, 8)), _meta((4, 5, 1, 1)), *rest) is None
    assert rule(_meta((1, 3, 8, 8)), _meta((4, 3, 1, 1), torch.float64), *rest) is None
    assert rule(_meta((1, 3, 8, 8)), _meta((4, 3, 9, 9)), *rest) is None
    assert rule(_meta((3, 8, 8)), _meta((4, 3, 1, 1)), *rest) is None
    transposed = (None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1)
    assert rule(_meta((1, 3, 8, 8)), _meta((3, 4, 2, 2)), *transposed) is None


@given(shapes=st.lists(maps, min_size=1, max_size=4), dim=st.integers(-4, 3), fit=st.booleans())
def test_cat(shapes: list[Any], dim: int, fit: bool) -> None:
    axis = dim % 4
    if fit:
        shapes = [(*shapes[0][:axis], s[axis], *shapes[0][axis + 1 :]) for s in shapes]
    fit = all(s[i] == shapes[0][i] for s in shapes for i in range(4) if i != axis)
    tensors = [_meta(s) for s in shapes]
    if fit:
        assert _agrees(aten.cat.default, tensors, dim)
    else:
        assert SHAPE_RULES[aten.cat.default](tensors, dim) is None


def test_cat_of_unlike_tensors_is_left_to_torch() -> None:
    rule = SHAPE_RULES[aten.cat.default]
    assert rule([_meta((0,)), _meta((1, 2))], 0) is None
    assert rule([_meta((1, 2)), _meta((1, 2), torch.float64)], 0) is None


binary = st.sampled_from([getattr(aten, name).Tensor for name in ("add", "sub", "mul", "div")])
in_place = st.sampled_from(
    [getattr(aten, name).Tensor for name in ("add_", "sub_", "mul_", "div_")]
)


@given(
    func=binary, x=maps, y=maps, one=dtypes, other=dtypes, layout=layouts, ones=st.integers(0, 15)
)
def test_binary(
    func: Any, x: Any, y: Any, one: torch.dtype, other: torch.dtype, layout: str, ones: int
) -> None:
    # `ones` says at which axes y is broadcast
    left = _layouts(_meta(x, one), layout)
    shape = [1 if ones >> axis & 1 else size for axis, size in enumerate(left.shape)]
    assume(all(shape) and all(left.shape))
    _agrees(func, left, _meta(shape, other), strides=not ones)
    try:
        func(_meta(x, one), _meta(y, one))
    except RuntimeError:
        assert SHAPE_RULES[func](_meta(x, one), _meta(y, one)) is None
    else:
        _agrees(func, _meta(x, one), _meta(y, one), strides=False)


@given(func=binary, x=maps, dtype=dtypes, number=st.sampled_from([2, 0.5, True, 0, -1.5]))
def test_binary_with_a_number(func: Any, x: Any, dtype: torch.dtype, number: Any) -> None:
    if number is True and func is aten.sub.Tensor:
        return  # torch refuses
    _agrees(func, _meta(x, dtype), number)


@given(func=in_place, x=maps, y=maps)
def test_binary_in_place(func: Any, x: Any, y: Any) -> None:
    tensor = _meta(x)
    assert SHAPE_RULES[func](tensor, _meta(x)) is tensor
    assert SHAPE_RULES[func](tensor, 2.0) is tensor
    if x != y:
        assert SHAPE_RULES[func](tensor, _meta(y)) is None
    assert SHAPE_RULES[func](tensor, _meta(x, torch.float64)) is None


unary = "relu gelu silu sigmoid hardtanh hardswish hardsigmoid leaky_relu elu mish tanh clone"


@pytest.mark.parametrize("name", unary.split())
@settings(max_examples=30)
@given(x=maps, layout=layouts, dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_unary(name: str, x: Any, layout: str, dtype: torch.dtype) -> None:
    tensor = _layouts(_meta(x, dtype), layout)
    assume(all(tensor.shape))
    answered = _agrees(getattr(aten, name).default, tensor)
    if layout in ("contiguous", "channels_last"):
        assert answered
    integers = _meta(x, torch.int64)
    rule = SHAPE_RULES[getattr(aten, name).default]
    assert rule(integers) is None or rule(integers).dtype == torch.int64


@pytest.mark.parametrize(
    "name", ["relu_", "silu_", "sigmoid_", "hardswish_", "leaky_relu_", "elu_"]
)
def test_unary_in_place(name: str) -> None:
    x = _meta((1, 2, 3, 4))
    assert SHAPE_RULES[getattr(aten, name).default](x) is x


@given(x=maps, layout=layouts)
def test_norms(x: Any, layout: str) -> None:
    tensor = _layouts(_meta(x), layout)
    assume(all(tensor.shape))
    channels = (tensor.shape[1],)
    weight, bias, mean, var = (_meta(channels) for _ in range(4))
    _agrees(
        aten.native_batch_norm.default, tensor, weight, bias, mean, var, False, 0.1, 1e-5,
        strides=layout == "contiguous",
    )  # fmt: skip
    for axes in (1, 2, 3):
        shape = list(tensor.shape[-axes:])
        _agrees(
            aten.native_layer_norm.default, tensor, shape, _meta(shape), _meta(shape), 1e-5,
            strides=layout == "contiguous",
        )  # fmt: skip
    if tensor.shape[-1] != 7:
        assert SHAPE_RULES[aten.native_layer_norm.default](tensor, [7], None, None, 1e-5) is None


@given(n=sizes, k=sizes, m=sizes, other=sizes)
def test_addmm(n: int, k: int, m: int, other: int) -> None:
    assert _agrees(aten.addmm.default, _meta((m,)), _meta((n, k)), _meta((k, m)))
    rule = SHAPE_RULES[aten.addmm.default]
    if other != k:
        assert rule(_meta((m,)), _meta((n, other)), _meta((k, m))) is None
    assert rule(_meta((m,)), _meta((n, k), torch.float64), _meta((k, m))) is None


@given(x=maps, y=maps, z=maps)
def test_addcmul(x: Any, y: Any, z: Any) -> None:
    channels = (1, x[1], 1, 1)
    assert _agrees(aten.addcmul.default, _meta(x), _meta(channels), _meta(x))
    try:
        aten.addcmul.default(_meta(x), _meta(y), _meta(z))
    except RuntimeError:
        assert SHAPE_RULES[aten.addcmul.default](_meta(x), _meta(y), _meta(z)) is None
    else:
        _agrees(aten.addcmul.default, _meta(x), _meta(y), _meta(z))


@given(x=maps, y=maps)
def test_into_another(x: Any, y: Any) -> None:
    for name in ("add", "sub", "mul"):
        func = getattr(aten, name).out
        rule = SHAPE_RULES[func]
        for other in (_meta((1, x[1], 1, 1)), _meta(()), torch.tensor(2.0), 2.0):
            out = _meta(x)
            assert rule(_meta(x), other, out=out) is out
            assert func(_meta(x), other, out=out).shape == torch.Size(x)
        assert rule(_meta(x), _meta(()), out=_meta((*x[:3], x[3] + 1))) is None
        assert rule(_meta(x), _meta(()), out=_meta(x, torch.float64)) is None
        if y != x:
            assert rule(_meta(x), _meta(y), out=_meta(x)) is None or all(
                a in (1, b) for a, b in zip(y, x, strict=True)
            )


@given(x=maps)
def test_from_a_number_and_beside_one(x: Any) -> None:
    assert _agrees(aten.rsub.Scalar, _meta(x), 1)
    assert _agrees(aten.eq.Scalar, _meta(x), 0)
    assert SHAPE_RULES[aten.eq.Scalar](_meta(x, torch.int64), 0).dtype is torch.bool
    shut = _meta((), torch.bool)
    assert _agrees(aten.where.self, shut, _meta((), torch.int64), _meta(x))
    wider = _meta((*x[:3], x[3] + 1), torch.bool)
    assert SHAPE_RULES[aten.where.self](wider, _meta(()), _meta(x)) is None


@given(x=maps, dims=st.lists(st.integers(-5, 4), max_size=3, unique=True), keepdim=st.booleans())
def test_mean(x: Any, dims: list[int], keepdim: bool) -> None:
    try:
        aten.mean.dim(_meta(x), dims, keepdim)
    except (RuntimeError, IndexError):
        rule = SHAPE_RULES[aten.mean.dim]
        assert rule(_meta(x), dims, keepdim) is None or len({d % 4 for d in dims}) < len(dims)
    else:
        _agrees(aten.mean.dim, _meta(x), dims, keepdim)
    assert SHAPE_RULES[aten.mean.dim](_meta(x, torch.int64), [1], keepdim) is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_empty(dtype: torch.dtype) -> None:
    func, device = aten.empty.memory_format, torch.device("meta")
    mine, theirs = (
        make([0, 3], dtype=dtype, layout=torch.strided, device=device)
        for make in (SHAPE_RULES[func], func)
    )
    assert layout_of(mine) == layout_of(theirs)
    assert mine.is_meta
    rule = SHAPE_RULES[func]
    assert rule([1, 2, 3, 4], device=device, memory_format=torch.channels_last) is None
    assert rule([2], device=device, layout=torch.sparse_coo) is None


def test_every_rule_is_tested() -> None:
    named = {
        "convolution", "cat", "native_batch_norm", "native_layer_norm", "addmm", "addcmul", "mean",
        "empty", "rsub", "eq", "where", "add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_",
        *unary.split(),
        "relu_", "silu_", "sigmoid_", "hardtanh_", "hardswish_", "hardsigmoid_", "leaky_relu_",
        "elu_", "mish_",
    }  # fmt: skip
    assert {func._schema.name.partition("::")[2] for func in SHAPE_RULES} == named


def test_a_view_of_a_gated_slice_is_followed() -> None:
    """Strides that a rule got wrong would make the `view` fail."""

    class Gate(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x[:, ::2]).view(x.shape[0], -1)

    assert probe(Gate(), (4, 8, 8)).stopped == ""


def _layout(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.shape, result.stride(), result.dtype, result.device
    return tuple(_layout(part) for part in result)


ASKED_ONCE = {
    "softmax": lambda x: torch.softmax(x, 1),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True),
    "sum of integers": lambda x: (x > 0).sum(1),
    "two results": lambda x: torch.topk(x, 1),
    "a list": lambda x: torch.stack([x, x], 1),
    "an option": lambda x: torch.var(x, 1, correction=0, keepdim=True),
    "transposed": lambda x: F.conv_transpose2d(x, x.new_empty(x.shape[1], 2, 3, 3), stride=2),
}


@pytest.mark.parametrize("name", ASKED_ONCE)
@settings(max_examples=10)
@given(x=maps, layout=layouts, dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_what_is_remembered_is_what_torch_says(
    name: str, x: Any, layout: str, dtype: torch.dtype
) -> None:
    tensor = _layouts(_meta(x, dtype), layout)
    expected = _layout(ASKED_ONCE[name](tensor))
    with FastShapes():
        first, second = ASKED_ONCE[name](tensor), ASKED_ONCE[name](tensor)
    assert _layout(first) == _layout(second) == expected


def test_equal_arguments_of_other_types_are_told_apart() -> None:
    x = _meta((2, 3), torch.int64)
    with FastShapes():
        types = [torch.pow(x, exponent).dtype for exponent in (2, 2.0, 2)]
    assert types == [torch.int64, torch.float32, torch.int64]


def test_results_are_never_the_same_tensor() -> None:
    x = _meta((2, 3))
    with FastShapes():
        first, second = torch.softmax(x, 1), torch.softmax(x, 1)
    assert first is not second


def test_operations_that_change_or_view_their_arguments_are_done() -> None:
    x = _meta((2, 3))
    with FastShapes():
        for _ in range(2):
            assert x.zero_() is x
            assert x.t()._base is x
    assert x._version == 2


def test_other_tensors_than_those_on_meta_are_left_to_torch() -> None:
    with FastShapes():
        for value in (1.0, 2.0):
            assert torch.softmax(torch.tensor([value, value]), 0).tolist() == [0.5, 0.5]
            assert torch.cumsum(torch.tensor([value]), 0).item() == value
