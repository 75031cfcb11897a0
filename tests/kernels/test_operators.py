"""The kernels of gates from 1×1 convolutions against formulas in float64.

Without a GPU they run in Triton's interpreter, on a machine with one natively.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    DEVICE,
    LAYOUTS,
    NATIVE,
    POOLS,
    TOLERANCE,
    check_gradients,
    dtypes,
    laid_out,
    poisoned,
    pooled,
    relative,
    shapes,
    softened,
    without_ties,
)
from torch import Tensor
from torch.nn import functional as F

from attnzoo.blocks import LocalAttention
from attnzoo.kernels.operators import gated, gated_backward
from attnzoo.kernels.shapes import KINDS

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("kernels_run_here")

every_kind = pytest.mark.parametrize("kind", KINDS)
every_pool = pytest.mark.parametrize("pool", POOLS)


def weights(kind: str, channels: int, hidden: int, dtype: torch.dtype) -> list[Tensor]:
    sizes: list[tuple[int, ...]] = [(hidden, channels, 1, 1), (hidden,), (channels, hidden, 1, 1)]
    sizes += [(channels,)]
    if kind == "eca":
        sizes = [(1, 1, 3)]
    elif kind == "local":
        sizes += [(hidden, channels, 1, 1), (hidden,), (1, hidden, 1, 1), (1,)]
    elif kind == "scse":
        sizes += [(1, channels, 1, 1), (1,)]
    scale = channels**-0.5
    return [(torch.randn(size) * scale).to(dtype).to(DEVICE) for size in sizes]


def formula(x: Tensor, w: list[Tensor], gamma: Tensor | None, kind: str) -> Tensor:
    """x times its gates, written out for float64."""

    def dense(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.einsum("oc,nchw->nohw", weight[:, :, 0, 0], value) + bias.view(-1, 1, 1)

    mean = x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
    if kind == "eca":
        padded = F.pad(mean[:, :, 0, 0], (1, 1))
        parts = [padded[:, i : i + x.shape[1]] * w[0].view(3)[i] for i in range(3)]
        gate = torch.sigmoid(sum(parts))[:, :, None, None]
    else:
        gate = torch.sigmoid(dense(dense(mean, w[0], w[1]).clamp(min=0), w[2], w[3]))
    if kind == "local":
        gate = gate * torch.sigmoid(dense(dense(x, w[4], w[5]).clamp(min=0), w[6], w[7]))
    if kind == "scse":
        gate = gate + torch.sigmoid(dense(x, w[4], w[5]))
    return softened(x, x * gate, gamma)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    return {
        "kind": draw(st.sampled_from(list(KINDS))),
        "pool": draw(st.sampled_from(list(POOLS))),
        "ceil": draw(st.booleans()),
        "softened": draw(st.booleans()),
        "layout": draw(st.sampled_from(LAYOUTS)),
        "dtype": draw(dtypes()),
        "shape": draw(shapes()),
        "hidden": draw(st.integers(1, 20)),
        "images": draw(st.integers(0, 3)),
        "seed": draw(st.integers(0, 1000)),
    }


@pytest.mark.no_cover
@settings(max_examples=25)
@given(case=cases())
def test_result_and_gradients_against_float64(case: dict) -> None:
    kind, pool, ceil, dtype = case["kind"], case["pool"], case["ceil"], case["dtype"]
    n, c, h, w = case["shape"]
    torch.manual_seed(case["seed"])
    x = torch.randn(n, c, h, w, device=DEVICE)
    x = (without_ties(x) if pool == "max" else x).to(dtype)
    x = laid_out(x, case["layout"])
    tensors = [x, *weights(kind, c, case["hidden"], dtype)]
    if case["softened"]:
        tensors.append(torch.rand(c, device=DEVICE).to(dtype))
    leaves = [t.detach().requires_grad_() for t in tensors]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    half = len(tensors) - case["softened"]
    gammas = [group[-1] if case["softened"] else None for group in (leaves, exact)]
    with poisoned():
        y = gated(leaves[0], leaves[1:half], gammas[0], kind, pool, ceil,
                  case["images"], True, 1.0)[0]  # fmt: skip
        g = torch.randn(y.shape, device=DEVICE).to(dtype)
        gradients = torch.autograd.grad(y, leaves, g)
    expected = pooled(formula(exact[0], exact[1:half], gammas[1], kind), pool, ceil)
    wanted = torch.autograd.grad(expected, exact, g.double())
    assert y.dtype == dtype
    assert y.shape == expected.shape
    last = case["layout"] == "channels_last" and c > 1
    if last and min(y.shape[2:]) > 1:
        assert y.is_contiguous(memory_format=torch.channels_last)
    assert relative(y.detach(), expected.detach()) < TOLERANCE[dtype]
    check_gradients(gradients, wanted, x)


@pytest.mark.no_cover
@pytest.mark.parametrize(("kind", "pool"), [("local", "max"), ("scse", "mean")])
@pytest.mark.skipif(NATIVE, reason="tensor cores have no float64")
def test_gradcheck(kind: str, pool: str) -> None:
    x = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    tensors = [t.requires_grad_() for t in weights(kind, 3, 2, torch.float64)]
    gamma = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, gamma: Tensor, *w: Tensor) -> Tensor:
        return gated(x, list(w), gamma, kind, pool, True, 1, True, 1.0)[0]

    assert torch.autograd.gradcheck(run, (x, gamma, *tensors), fast_mode=True)


@pytest.mark.no_cover
@every_kind
@every_pool
@pytest.mark.parametrize("softened", [True, False])
def test_second_derivatives(kind: str, pool: str, softened: bool) -> None:
    dtype = torch.float32 if NATIVE else torch.float64
    x = torch.randn(2, 4, 3, 5, dtype=dtype, device=DEVICE, requires_grad=True)
    w = [t.requires_grad_() for t in weights(kind, 4, 2, dtype)]
    gamma = torch.randn(4, dtype=dtype, device=DEVICE, requires_grad=True) if softened else None
    leaves = [x, *w, *([gamma] if softened else [])]

    def second(y: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
        return list(torch.autograd.grad(sum(d.square().sum() for d in first), leaves))

    found = second(gated(x, w, gamma, kind, pool, True, 0, True, 1.0)[0])
    wanted = second(pooled(formula(x, w, gamma, kind), pool, True))
    for value, target in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, target, rtol=1e-3 if NATIVE else 1e-7, atol=1e-4)


@pytest.mark.no_cover
@every_pool
@pytest.mark.filterwarnings("ignore:invalid value encountered")  # numpy, in the interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gamma_zero_gives_what_was_there_bit_for_bit(
    pool: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = torch.randn(2, 20, 7, 9).to(dtype)
    x.view(-1)[::7], x.view(-1)[::11] = 0.0, -0.0
    x = x.to(DEVICE, memory_format=layout)
    for special in (0.0, torch.inf, -torch.inf, torch.nan):
        x[0, 3, 2, 2] = special
        w = weights("local", 20, 5, dtype)
        gamma = torch.zeros(20, device=DEVICE)
        y = gated(x, w, gamma, "local", pool, False, 1, False, 1.0)[0]
        expected = pooled(x, pool, False)
        assert torch.equal(y.isnan(), expected.isnan())
        if pool == "mean" and dtype == torch.bfloat16 and not NATIVE:
            # Triton's interpreter cuts bfloat16 off instead of rounding it.
            torch.testing.assert_close(y, expected, rtol=2**-7, atol=0, equal_nan=True)
            continue
        bits = torch.int32 if dtype == torch.float32 else torch.int16
        same = y.contiguous().view(bits) == expected.contiguous().view(bits)
        assert (same | y.isnan()).all()


def test_of_equal_maxima_the_first_gets_the_gradient() -> None:
    x = torch.randint(2, (1, 2, 8, 7), device=DEVICE).float()
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    gamma = torch.zeros(2, device=DEVICE)
    y = gated(one, weights("se", 2, 2, torch.float32), gamma, "se", "max", True, 0, True, 1.0)[0]
    expected = F.max_pool2d(other, 2, ceil_mode=True)
    y.sum().backward()
    expected.sum().backward()
    assert torch.equal(one.grad, other.grad)


@pytest.mark.no_cover
def test_cuts_and_runs_give_the_same_bits() -> None:
    x = torch.randn(3, 18, 5, 6, device=DEVICE, requires_grad=True)
    w = [t.requires_grad_() for t in weights("local", 18, 3, torch.float32)]

    def run(images: int) -> list[Tensor]:
        y = gated(x, w, None, "local", "mean", False, images, True, 1.0)[0]
        return [y.detach(), torch.autograd.grad(y.square().sum(), x)[0]]

    first = run(0)
    for images in (0, 1, 2):
        assert all(torch.equal(a, b) for a, b in zip(run(images), first, strict=True))


def test_a_gradient_that_is_one_value_expanded() -> None:
    block = LocalAttention(8).to(DEVICE)
    x = torch.randn(2, 8, 6, 6, device=DEVICE, requires_grad=True)
    block(x).sum().backward()
    expected = torch.autograd.grad(block.formula(x).sum(), [x, *block.parameters()])
    for value, target in zip(
        [x.grad, *(p.grad for p in block.parameters())], expected, strict=True
    ):
        torch.testing.assert_close(value, target, rtol=1e-4, atol=1e-5)


@pytest.mark.no_cover
@every_kind
def test_operators_keep_the_contract_of_pytorch(kind: str) -> None:
    x = torch.randn(2, 6, 4, 5, device=DEVICE, requires_grad=True)
    w = [t.requires_grad_() for t in weights(kind, 6, 2, torch.float32)]
    gamma = torch.randn(6, device=DEVICE, requires_grad=True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(gated, (x, w, gamma, kind, "max", False, 1, True, 1.0), test_utils=checks)
    with torch.no_grad():
        y, *kept = gated(x, w, gamma, kind, "max", False, 0, True, 1.0)
        arguments = (torch.ones_like(y), x, w, gamma, *kept, kind, "max", False, 0, 1.0)
        torch.library.opcheck(gated_backward, arguments, test_utils=checks)


def test_fakes_have_the_strides_of_the_results() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 6, 5, 4, device=DEVICE).contiguous(memory_format=layout)
        w, gamma = weights("local", 6, 2, torch.float32), torch.randn(6, device=DEVICE)
        real = gated(x, w, gamma, "local", "max", True, 0, True, 1.0)
        with torch._subclasses.FakeTensorMode() as mode:
            faked = [mode.from_tensor(t) for t in (x, *w, gamma)]
            fake = gated(faked[0], faked[1:-1], faked[-1], "local", "max", True, 0, True, 1.0)
        for one, other in zip(real, fake, strict=True):
            assert (one.shape, one.stride(), one.dtype) == (
                other.shape,
                other.stride(),
                other.dtype,
            )


def test_operators_have_no_defaults() -> None:
    """PyTorch 2.11 hides arguments that have their default from an operator's gradient."""
    assert {"gated", "gated_backward", "energy", "gate_maps"} <= set(operators())
    for name in operators():
        schema = getattr(torch.ops.attnzoo, name).default._schema
        assert not [one.name for one in schema.arguments if one.has_default_value()], name


def operators() -> list[str]:
    """All operators of the package."""
    from attnzoo.kernels import energy, gates, operators, statistics  # noqa: F401

    found = torch._C._dispatch_get_all_op_names()
    return sorted({n.removeprefix("attnzoo::") for n in found if n.startswith("attnzoo::")})
