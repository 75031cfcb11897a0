"""The blocks run by the kernels: values, gradients, γ, autocast, compiler, memory."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import BLOCKS, DEVICE, noted_backward, noted_calls, relative
from torch import Tensor, nn

import attnzoo
from attnzoo.blocks import LocalAttention
from attnzoo.hosts.attention import Attention, Replaced
from attnzoo.kernels import dispatch

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("kernels_run_here")

every_block = pytest.mark.parametrize("kind", BLOCKS)


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
