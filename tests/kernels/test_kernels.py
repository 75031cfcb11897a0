"""The fused kernels against formulas in float64, and where they give way to the plain formula.

Without a GPU they run in Triton's interpreter, on a machine with one natively.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    BLOCKS,
    DEVICE,
    LAYOUTS,
    NATIVE,
    POOLS,
    TOLERANCE,
    check_gradients,
    dtypes,
    laid_out,
    noted_backward,
    noted_calls,
    poisoned,
    pooled,
    relative,
    shapes,
    softened,
    without_ties,
)
from places import SUPPORT
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import attnzoo
from attnzoo.blocks import LocalAttention
from attnzoo.hosts.attention import Attention, Replaced
from attnzoo.kernels import dispatch
from attnzoo.kernels.operators import gated, gated_backward
from attnzoo.kernels.shapes import KINDS, images_per_cut, pooled_size, tiling

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("kernels_run_here")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_block = pytest.mark.parametrize("kind", BLOCKS)
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
                  case["images"], True)[0]  # fmt: skip
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
        return gated(x, list(w), gamma, kind, pool, True, 1, True)[0]

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

    found = second(gated(x, w, gamma, kind, pool, True, 0, True)[0])
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
        y = gated(x, w, gamma, "local", pool, False, 1, False)[0]
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
    y = gated(one, weights("se", 2, 2, torch.float32), gamma, "se", "max", True, 0, True)[0]
    expected = F.max_pool2d(other, 2, ceil_mode=True)
    y.sum().backward()
    expected.sum().backward()
    assert torch.equal(one.grad, other.grad)


@pytest.mark.no_cover
def test_cuts_and_runs_give_the_same_bits() -> None:
    x = torch.randn(3, 18, 5, 6, device=DEVICE, requires_grad=True)
    w = [t.requires_grad_() for t in weights("local", 18, 3, torch.float32)]

    def run(images: int) -> list[Tensor]:
        y = gated(x, w, None, "local", "mean", False, images, True)[0]
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
    torch.library.opcheck(gated, (x, w, gamma, kind, "max", False, 1, True), test_utils=checks)
    with torch.no_grad():
        y, *kept = gated(x, w, gamma, kind, "max", False, 0, True)
        arguments = (torch.ones_like(y), x, w, gamma, *kept, kind, "max", False, 0)
        torch.library.opcheck(gated_backward, arguments, test_utils=checks)


def test_fakes_have_the_strides_of_the_results() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 6, 5, 4, device=DEVICE).contiguous(memory_format=layout)
        w, gamma = weights("local", 6, 2, torch.float32), torch.randn(6, device=DEVICE)
        real = gated(x, w, gamma, "local", "max", True, 0, True)
        with torch._subclasses.FakeTensorMode() as mode:
            faked = [mode.from_tensor(t) for t in (x, *w, gamma)]
            fake = gated(faked[0], faked[1:-1], faked[-1], "local", "max", True, 0, True)
        for one, other in zip(real, fake, strict=True):
            assert (one.shape, one.stride(), one.dtype) == (
                other.shape,
                other.stride(),
                other.dtype,
            )


# --- in the blocks -------------------------------------------------------------------------------


@every_block
def test_blocks_use_the_kernels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = noted_calls(monkeypatch)
    block = attnzoo.create_block(kind, 12).to(DEVICE)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    x = torch.randn(2, 12, 5, 6, device=DEVICE, requires_grad=True)
    y = block(x)
    assert len(asked) == 1
    torch.testing.assert_close(y, block.formula(x), rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(y.square().sum(), [x, *block.parameters()])
    wanted = torch.autograd.grad(block.formula(x).square().sum(), [x, *block.parameters()])
    for value, target in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, target, rtol=1e-3, atol=1e-4)


@every_block
def test_gradients_come_from_the_formula_only_if_they_are_differentiated(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = noted_backward(monkeypatch)
    block = attnzoo.create_block(kind, 6).to(DEVICE)
    x = torch.randn(2, 6, 4, 4, device=DEVICE, requires_grad=True)
    y = block(x).square().sum()
    second = torch.autograd.grad(y, x, create_graph=True)[0]
    assert not ran
    first = torch.autograd.grad(y, x)[0]
    assert ran
    torch.testing.assert_close(first, second.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", ["NCHW", "NHWC"])
@pytest.mark.parametrize("gamma", [True, False])
def test_attention_folds_gamma_into_the_kernels(
    axes: str, gamma: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = Attention(LocalAttention(10), "local", 10, gamma=gamma, axes=axes).to(DEVICE)
    x = torch.randn(2, 10, 6, 4, device=DEVICE)
    x = x.permute(0, 2, 3, 1).contiguous() if axes == "NHWC" else x
    if gamma:
        assert torch.equal(attention(x), x)
        nn.init.normal_(attention.gamma)
    asked = noted_calls(monkeypatch)
    y = attention(x)
    assert [args[2] is not None for args in asked] == [gamma]
    torch.testing.assert_close(y, attention._attended(x, None), rtol=1e-5, atol=1e-5)


def test_a_module_in_whose_place_attention_stands_keeps_running() -> None:
    host = nn.Conv2d(6, 6, 1)
    replaced = Replaced(host, Attention(LocalAttention(6), "local", 6)).to(DEVICE)
    x = torch.randn(1, 6, 4, 4, device=DEVICE)
    assert torch.equal(replaced(x), host(x))


@every_block
def test_autocast_keeps_the_dtype_of_the_map(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = noted_calls(monkeypatch)
    block = attnzoo.create_block(kind, 16).to(DEVICE)
    x = torch.randn(2, 16, 4, 4, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast(DEVICE, torch.bfloat16):
        y = block(x)
    assert len(asked) == 1
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in block.parameters())
    assert relative(y, block.formula(x.float())) < 2e-2


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", ["local", "cbam", "simam"])
def test_compile_sees_through_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = Attention(attnzoo.create_block(kind, 8), kind, 8).to(DEVICE).eval()
    nn.init.normal_(attention.gamma)
    torch.compiler.reset()
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    x = torch.randn(2, 8, 6, 6, device=DEVICE)
    compiled = torch.compile(attention, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), attention(x))
    assert any("attnzoo" in name for name in seen)
    trained = torch.compile(attention, fullgraph=True, backend="aot_eager")
    leaves = [x.requires_grad_(), *attention.parameters()]
    ran = noted_backward(monkeypatch)
    found = torch.autograd.grad(trained(x).square().sum(), leaves)
    assert len(ran) == (3 if kind == "cbam" else 1)
    wanted = torch.autograd.grad(attention._attended(x, None).square().sum(), leaves)
    for value, target in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, target, rtol=1e-3, atol=1e-4)
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["local", "cbam", "simam"])
def test_exports_and_traces_have_the_plain_formula(kind: str) -> None:
    block = attnzoo.create_block(kind, 8).to(DEVICE).eval()
    x = torch.randn(2, 8, 6, 6, device=DEVICE)
    for strict in (True, False):
        program = torch.export.export(block, (x,), strict=strict)
        assert not any("attnzoo" in str(node.target) for node in program.graph.nodes)
    if kind != "cbam":  # whose BatchNorm asks for the number of values
        assert "attnzoo" not in str(torch.fx.symbolic_trace(block).graph)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*KINDS, "simam"])
def test_torchscript_has_the_plain_formula(kind: str) -> None:
    block = attnzoo.create_block(kind, 8).to(DEVICE).eval()
    x = torch.randn(2, 8, 6, 6, device=DEVICE)
    with torch.no_grad():
        assert "attnzoo::" not in str(torch.jit.trace(block, x).inlined_graph)
    torch.testing.assert_close(torch.jit.script(block)(x), block.formula(x))


def _hooked(block: nn.Module) -> None:
    block.spatial_attention.register_forward_hook(lambda *_: None)


def _prehooked(block: nn.Module) -> None:
    block.channel_attention[1].register_forward_pre_hook(lambda *_: None)


def _parametrised(block: nn.Module) -> None:
    parametrizations.weight_norm(block.channel_attention[1])


def _replaced(block: nn.Module) -> None:
    block.spatial_attention[1] = nn.GELU()


def _patched(block: nn.Module) -> None:
    block.channel_attention.forward = partial(nn.Sequential.forward, block.channel_attention)


def _without_bias(block: nn.Module) -> None:
    block.channel_attention[1].bias = None


def _compiled(block: nn.Module) -> None:
    block.spatial_attention.compile(backend="eager")


def _derived(block: nn.Module) -> None:
    block.__class__ = type("Mine", (LocalAttention,), {})


@pytest.mark.parametrize(
    "change",
    [_hooked, _prehooked, _parametrised, _replaced, _patched, _without_bias, _compiled, _derived],
)
def test_a_changed_block_runs_as_it_says(change, monkeypatch: pytest.MonkeyPatch) -> None:
    block = LocalAttention(8).to(DEVICE)
    change(block)
    asked = noted_calls(monkeypatch)
    x = torch.randn(1, 8, 4, 4, device=DEVICE)
    assert torch.equal(block(x), block.formula(x))
    assert not asked


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(1, 8, 4, 4, dtype=torch.float64),
        torch.randn(8, 4, 4),
        torch.randn(0, 8, 4, 4),
        torch.randn(1, 8, 4, 4, device="meta"),
    ],
    ids=["float64", "3-D", "empty", "meta"],
)
def test_other_maps_take_the_plain_formula(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = noted_calls(monkeypatch)
    if x.device.type == "cpu":
        x = x.to(DEVICE)
    assert LocalAttention(8).to(x)(x).shape == x.shape
    assert not asked


def test_weights_of_another_dtype_raise_as_they_do_without_kernels() -> None:
    block = LocalAttention(8).to(DEVICE)
    with pytest.raises(RuntimeError, match="type"):
        block(torch.randn(1, 8, 4, 4, device=DEVICE, dtype=torch.bfloat16))


def test_a_hidden_layer_too_wide_takes_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnzoo.kernels.calls.WIDEST", 1)
    asked = noted_calls(monkeypatch)
    LocalAttention(16).to(DEVICE)(torch.randn(1, 16, 2, 2, device=DEVICE))
    assert not asked


def test_global_hooks_take_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = noted_calls(monkeypatch)
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        LocalAttention(8).to(DEVICE)(torch.randn(1, 8, 2, 2, device=DEVICE))
    finally:
        handle.remove()
    assert not asked


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.func's own use of TorchScript
def test_transforms_take_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = noted_calls(monkeypatch)
    block = LocalAttention(8).to(DEVICE)
    parameters = {name: p.detach() for name, p in block.named_parameters()}
    x = torch.randn(3, 8, 4, 4, device=DEVICE)

    def loss(p: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(block, p, (image[None],)).sum()

    per_image = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    summed = torch.autograd.grad(block.formula(x).sum(), list(block.parameters()))
    for name, gradient in zip(parameters, summed, strict=True):
        torch.testing.assert_close(per_image[name].sum(0), gradient, rtol=1e-3, atol=1e-4)
    tangent = torch.func.jvp(block, (x,), (torch.ones_like(x),))[1]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        found = torch.autograd.forward_ad.unpack_dual(block(dual)).tangent
    torch.testing.assert_close(found, tangent)
    assert not asked


def test_the_environment_switches_them_off() -> None:
    code = "from attnzoo.kernels import dispatch; print(dispatch.ENABLED)"
    environment = {**os.environ, "ATTNZOO_FUSED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_attnzoo_works_where_triton_is_not() -> None:
    code = """
        import sys
        sys.modules["triton"] = None
        import attnzoo, torch
        from attnzoo.kernels import dispatch
        dispatch.DEVICES = {"cpu"}
        assert not dispatch.ENABLED
        attnzoo.create_block("local", 8)(torch.randn(1, 8, 4, 4))
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr


# --- memory, cuts, blocks ------------------------------------------------------------------------


def kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Bytes that are kept for the backward pass, besides x and the parameters."""
    known = {t.untyped_storage().data_ptr() for t in (x, *module.parameters())}
    sizes: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in known:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    held = []  # alive, so that no storage is used twice
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (held.append(t), pack(t))[1], lambda t: t
    ):
        module(x)
    return sum(sizes.values())


@pytest.mark.parametrize("kind", ["local", "cbam", "spatial", "simam"])
def test_less_is_kept_for_the_backward_pass(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = Attention(attnzoo.create_block(kind, 64), kind, 64).to(DEVICE, torch.bfloat16)
    attention.pool = nn.MaxPool2d(2)
    x = torch.randn(1, 64, 16, 16, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    fused = kept_bytes(attention, x)
    monkeypatch.setattr(dispatch, "ENABLED", False)
    plain = kept_bytes(attention, x)
    assert 0 < 3 * fused < plain


def test_blocks_fit_a_program() -> None:
    for channels in (1, 3, 64, 2048, 4096):
        for hidden in (1, 8, 64, 256, 1024):
            for itemsize in (2, 4):
                cut = tiling(channels, 196, hidden, itemsize)
                assert cut.hidden >= hidden
                assert min(cut.pixels, cut.channels, cut.hidden, cut.slice) >= 16
                assert cut.hidden * cut.pixels <= 16384
    assert pooled_size(7, 8, "max", True) == (4, 4)
    assert pooled_size(7, 8, "mean", False) == (3, 4)
    assert pooled_size(7, 8, "", True) == (7, 8)
    assert images_per_cut(torch.randn(5, 2, 2, 2)) == 5


def test_a_cut_fills_its_share_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    h200 = SimpleNamespace(L2_cache_size=60 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: h200)

    def images(*shape: int) -> int:
        x = SimpleNamespace(shape=shape, element_size=lambda: 2, is_cuda=True, device="cuda")
        return images_per_cut(x)

    assert images(64, 64, 224, 224) == 3
    assert images(64, 512, 14, 14) == 125
    assert images(64, 512, 1024, 1024) == 1
    assert images(10**6, 1, 1, 1) == 65535


def test_only_gpus_that_have_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for capability, expected in (((9, 0), True), ((8, 0), True), ((7, 5), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert dispatch._is_capable(device) == expected
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not dispatch._is_capable(device)


@pytest.mark.skipif(NATIVE, reason="they have just run")
def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path) -> None:
    """Every kernel, for compute capability 9.0."""
    nvidia = pytest.importorskip("triton.backends").backends.get("nvidia")
    if nvidia is None:
        pytest.skip("this Triton has no backend for NVIDIA")
    script = SUPPORT / "compile_kernels.py"
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {
        "statistics", "channel_gate", "apply_pool", "sums", "gate_sums", "weight_sums", "spread",
        "plane_tiles", "plane_totals", "energy_sums", "energy_totals", "energy_spread",
        "spread_planes", "pixels", "spread_pixels", "apply", "spread_gates",
    }  # fmt: skip
