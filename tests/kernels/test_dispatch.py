"""Where the kernels give way to the plain formula, and on what machines they run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import partial

import pytest
import torch
from kernel_cases import DEVICE, noted_calls
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import attnzoo
from attnzoo.blocks import LocalAttention
from attnzoo.kernels import dispatch
from attnzoo.kernels.shapes import KINDS

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("kernels_run_here")


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


def test_only_gpus_that_have_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for capability, expected in (((9, 0), True), ((8, 0), True), ((7, 5), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert dispatch._is_capable(device) == expected
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not dispatch._is_capable(device)
