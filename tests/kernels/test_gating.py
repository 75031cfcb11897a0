"""The one place that applies gates: numbers, bits, layout, derivatives, and what it keeps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from zoo import same_bits

from attnzoo import kernels
from attnzoo.kernels.gating import gated_map, plus, summed, times

N, C, H, W = 2, 3, 4, 5
SHAPES = {
    "channel": [(N, C, 1, 1)],
    "spatial": [(N, 1, H, W)],
    "both": [(N, C, 1, 1), (N, 1, H, W)],
    "strips": [(N, C, H, 1), (N, C, 1, W)],
    "map": [(N, C, H, W)],
    "maps": [(N, C, H, W), (N, C, H, W)],
    "three": [(N, C, 1, 1), (N, C, H, 1), (N, 1, H, W)],
}
every_shape = pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
every_make = pytest.mark.parametrize("make", [times, plus])
FORMATS = [torch.contiguous_format, torch.channels_last]


def squashed(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """A gate that is made of x, too."""
    return (x * first + second).sigmoid_()


def _inputs(
    shapes: list[tuple[int, ...]],
    layout: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    x = torch.randn(N, C, H, W, dtype=dtype).contiguous(memory_format=layout)
    gamma = torch.tensor([0.0, 0.5, -0.3], dtype=dtype)
    gates = [torch.rand(shape, dtype=dtype) for shape in shapes]
    for tensor in (x, gamma, *gates):
        tensor.requires_grad_()
    return x, gamma, gates


def _written_out(x: Tensor, gates: list[Tensor], gamma: Tensor | None, make: Any) -> Tensor:
    gate = 2 * make(*gates)
    return x * gate if gamma is None else x * (1 + gamma.view(1, -1, 1, 1) * (gate - 1))


@every_shape
@every_make
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("soft", [True, False])
def test_is_the_formula_in_every_mode(
    shapes: list[tuple[int, ...]], make: Any, layout: torch.memory_format, soft: bool
) -> None:
    x, gamma, gates = _inputs(shapes, layout)
    gamma = gamma if soft else None
    y = gated_map(x, gates, gamma, make=make, scale=2.0)
    torch.testing.assert_close(y, _written_out(x, gates, gamma, make))
    assert y.stride() == x.stride()
    with torch.no_grad():
        assert same_bits(gated_map(x, gates, gamma, make=make, scale=2.0), y)
    recorded = torch.compile(gated_map, backend="eager", fullgraph=True)
    torch._dynamo.reset()
    assert same_bits(recorded(x, gates, gamma, make=make, scale=2.0), y)


@every_shape
@every_make
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("soft", [True, False])
def test_first_and_second_derivatives(
    shapes: list[tuple[int, ...]], make: Any, layout: torch.memory_format, soft: bool
) -> None:
    x, gamma, gates = _inputs(shapes, layout)

    def run(x: Tensor, gamma: Tensor, *gates: Tensor) -> Tensor:
        return gated_map(x, gates, gamma if soft else None, make=make, scale=2.0)

    assert gradcheck(run, (x, gamma, *gates))
    assert gradgradcheck(run, (x, gamma, *gates), fast_mode=True)


def test_derivatives_of_a_gate_that_is_made_of_x() -> None:
    x, gamma, gates = _inputs([(N, C, 1, 1), (N, 1, H, W)])

    def run(x: Tensor, gamma: Tensor, *parts: Tensor) -> Tensor:
        return gated_map(x, [x, *parts], gamma, make=squashed)

    assert gradcheck(run, (x, gamma, *gates))
    assert gradgradcheck(run, (x, gamma, *gates))


def test_groups_of_channels_share_a_gate() -> None:
    x = torch.randn(N, 6, H, W, dtype=torch.float64, requires_grad=True)
    gamma = torch.randn(6, dtype=torch.float64, requires_grad=True)
    gate = torch.rand(N, 2, 1, H, W, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, gamma: Tensor, gate: Tensor) -> Tensor:
        return gated_map(x, [gate], gamma, groups=2)

    whole = gate.expand(N, 2, 3, H, W).flatten(1, 2)
    torch.testing.assert_close(run(x, gamma, gate), _written_out(x, [whole / 2], gamma, times))
    assert gradcheck(run, (x, gamma, gate))
    assert gradgradcheck(run, (x, gamma, gate))


@every_shape
def test_per_sample_gradients_and_jvp(shapes: list[tuple[int, ...]]) -> None:
    x, gamma, gates = _inputs(shapes)
    x, gamma, gates = x.detach(), gamma.detach(), [g.detach() for g in gates]

    def loss(gamma: Tensor, x: Tensor, *gates: Tensor) -> Tensor:
        return gated_map(x[None], [g[None] for g in gates], gamma).square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss), (None, 0, *[0] * len(gates)))
    found = mapped(gamma, x, *gates)
    for image in range(N):
        alone = gamma.clone().requires_grad_()
        loss(alone, x[image], *[g[image] for g in gates]).backward()
        torch.testing.assert_close(found[image], alone.grad)
    tangent = torch.randn_like(x)
    _, forward = torch.func.jvp(lambda x: gated_map(x, gates, gamma), (x,), (tangent,))
    torch.testing.assert_close(forward, gated_map(tangent, gates, gamma))
    with forward_ad.dual_level():
        dual = gated_map(forward_ad.make_dual(x, tangent), gates, gamma)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, forward)


WILD = [-0.0, 0.0, float("inf"), -float("inf"), float("nan"), 1e30, -3.0]


@every_shape
@every_make
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wild_gates", [False, True])
@pytest.mark.parametrize("mode", ["learning", "no grad", "recorded"])
def test_gamma_of_zero_is_the_identity_bit_for_bit(
    shapes: list[tuple[int, ...]], make: Any, dtype: torch.dtype, wild_gates: bool, mode: str
) -> None:
    x, gamma, gates = _inputs(shapes, dtype=dtype)
    with torch.no_grad():
        x.view(-1)[: len(WILD)] = torch.tensor(WILD).to(dtype)
        if wild_gates:
            for gate in gates:
                gate.view(-1)[:2] = torch.tensor([float("inf"), float("nan")])
    run: Callable[..., Tensor] = gated_map
    if mode == "recorded":
        torch._dynamo.reset()
        run = torch.compile(gated_map, backend="eager", fullgraph=True)
    with torch.set_grad_enabled(mode != "no grad"):
        y = run(x, gates, gamma, make=make)
    assert same_bits(y[:, 0].detach(), x[:, 0].detach())
    if mode == "learning" and not wild_gates:
        x, gamma, gates = _inputs(shapes, dtype=dtype)
        gated_map(x, gates, gamma, make=make).sum().backward()
        assert gamma.grad[0] != 0, "γ could never leave zero"


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", ["channel", "spatial", "both", "strips"])
def test_what_is_kept_is_x_and_what_is_small(
    name: str, layout: torch.memory_format, soft: bool
) -> None:
    shapes = [tuple(8 * s if s in (H, W) else s for s in shape) for shape in SHAPES[name]]
    x = torch.randn(N, C, 8 * H, 8 * W).contiguous(memory_format=layout).requires_grad_()
    gates = [torch.rand(shape, requires_grad=True) for shape in shapes]
    gamma = torch.rand(C, requires_grad=True) if soft else None
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = gated_map(x, gates, gamma)
    y.sum().backward()
    small = sum(gate.nbytes for gate in gates)
    assert sum(kept.values()) <= x.nbytes + 3 * small + 100


@pytest.mark.parametrize("name", ["channel", "spatial", "both", "strips"])
@pytest.mark.parametrize("layout", FORMATS)
def test_inference_makes_one_new_map(name: str, layout: torch.memory_format) -> None:
    x, gamma, gates = _inputs(SHAPES[name], layout)
    made: list[torch.Size] = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            given = (*args, *(kwargs or {}).values())
            known = [t.data_ptr() for t in given if isinstance(t, Tensor)]
            whole = isinstance(result, Tensor) and result.numel() == x.numel()
            if whole and result.data_ptr() not in known:
                made.append(result.shape)
            return result

    with torch.no_grad(), Recorder():
        gated_map(x, gates, gamma)
    assert len(made) == 1


@pytest.mark.parametrize("layout", FORMATS)
def test_the_result_can_be_changed_in_place(layout: torch.memory_format) -> None:
    """As residual blocks do with what attention returns."""
    x, gamma, gates = _inputs(SHAPES["both"], layout)
    expected = torch.autograd.grad((gated_map(x, gates, gamma) + x).square().sum(), x)
    y = gated_map(x, gates, gamma)
    y += x
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_shape
def test_half_precision_is_rounded_once(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> None:
    """A γ that is lost beside 1 in half precision still counts."""
    x, _, gates = _inputs(shapes, dtype=dtype)
    gamma = torch.tensor([1e-3, 2e-3, 0.3], requires_grad=True)
    y = gated_map(x, gates, gamma)
    assert y.dtype == dtype
    first, *others = (gate.double() for gate in gates)
    exact = _written_out(x.double(), [first / 2, *others], gamma.double(), times)
    # A value of x that is 0, as some generators draw in bfloat16, stays 0.
    error = ((y.double() - exact).abs() / exact.abs().clamp_min(1e-30)).max()
    assert error < 0.6 * torch.finfo(dtype).eps
    grads = torch.autograd.grad(y.double().sum(), [x, gamma, *gates])
    assert [g.dtype for g in grads] == [dtype, torch.float32, *[dtype] * len(gates)]


def test_tensors_made_of_tensors_and_traces_get_plain_operations() -> None:
    x, gamma, gates = _inputs(SHAPES["both"])

    class Block(nn.Module):
        def forward(self, x: Tensor, gamma: Tensor, one: Tensor, other: Tensor) -> Tensor:
            return gated_map(x, [one, other], gamma)

    program = torch.export.export(Block(), (x, gamma, *gates))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names
    assert all(name.startswith("aten.") for name in names)
    assert not any("addcmul" in name or "where" in name for name in names)
    symbolic = torch.fx.symbolic_trace(Block())
    for traced in (program.module(), symbolic):
        torch.testing.assert_close(traced(x, gamma, *gates), gated_map(x, gates, gamma))


def test_plus_and_times() -> None:
    a, b, c = torch.rand(3, 4)
    assert torch.equal(times(a), a)
    assert torch.equal(plus(a), a)
    assert torch.equal(times(a, b, c), a * b * c)
    assert torch.equal(plus(a, b, c), a + b + c)
    assert kernels.times is times


def test_expanded_and_sparse_gradients_of_the_result() -> None:
    x, gamma, gates = _inputs(SHAPES["both"], torch.channels_last)
    for loss in (torch.sum, lambda y: y[:, 1, 2].sum(), torch.mean):
        found = torch.autograd.grad(loss(gated_map(x, gates, gamma)), [x, gamma, *gates])
        plain = _written_out(x, [gates[0] / 2, gates[1]], gamma, times)
        expected = torch.autograd.grad(loss(plain), [x, gamma, *gates])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("frozen", list(itertools.combinations(range(4), 3)))
def test_only_what_learns_gets_a_gradient(frozen: tuple[int, ...]) -> None:
    x, gamma, gates = _inputs(SHAPES["both"])
    tensors = [x, gamma, *gates]
    for index in frozen:
        tensors[index].requires_grad_(False)
    gated_map(x, gates, gamma).sum().backward()
    assert [t.grad is not None for t in tensors] == [i not in frozen for i in range(4)]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    ("factor", "kept"),
    [
        ((N, 1, H, W), (N, C, 1, 1)),
        ((N, 1, H, W), (1, C, 1, 1)),
        ((N, C, 1, 1), (N, 1, H, W)),
        ((1, C, 1, 1), (N, 1, H, W)),
        ((N, C, 1, W), (N, C, H, 1)),
        ((N, C, H, 1), (N, C, 1, W)),
        ((1, C, 1, 1), (1, C, 1, 1)),
    ],
)
def test_sums_of_products(
    layout: torch.memory_format, factor: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    whole = torch.randn(N, C, H, W, dtype=torch.float64).contiguous(memory_format=layout)
    scale, like = torch.randn(factor, dtype=torch.float64), torch.empty(kept, dtype=torch.float64)
    expected = (whole * scale).sum_to_size(kept)
    torch.testing.assert_close(summed(whole, scale, like), expected)
    grouped = whole.unflatten(1, (1, C))
    found = summed(grouped, scale.unsqueeze(1), like.unsqueeze(1))
    torch.testing.assert_close(found, expected.unsqueeze(1))
