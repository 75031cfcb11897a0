"""Blocks are written for export in operations that tools for deployment know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attnzoo
from attnzoo.hosts import Attention
from attnzoo.registry import BLOCKS

pytestmark = pytest.mark.no_cover

#: Each was refused, or came out wrong, somewhere: pnnx and ncnn, Core ML, LiteRT, OpenCV's dnn.
UNKNOWN = {
    "addcmul",
    "clamp_min",
    "expand_as",
    "masked_fill",
    "new_ones",
    "scaled_dot_product_attention",
    "std",
    "unbind",
    "var_mean",
}


def block_of(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    block = attnzoo.create_block(name, 16).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return block


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(spec.name for spec in BLOCKS))
def test_what_is_exported_is_known_elsewhere(name: str) -> None:
    block, x = block_of(name), torch.randn(2, 16, 12, 8)
    with torch.no_grad():
        traced = torch.jit.trace(block, x)
        kinds = {node.kind().partition("::")[2] for node in traced.inlined_graph.nodes()}
        program = torch.export.export(block, (x,))
        kinds |= {getattr(node.target, "_opname", "") for node in program.graph.nodes}
        assert not kinds & UNKNOWN
        assert name != "ela" or "conv1d" not in kinds  # which XNNPACK takes of eca, not of ela
        wanted = block(x)
        for made in (traced(x), program.module()(x)):
            torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["spatial", "se"])
def test_a_gate_of_one_channel_is_not_scaled_and_shifted(name: str) -> None:
    """That coremltools takes for a batch norm of as many channels as γ has."""
    torch.manual_seed(0)
    site = Attention(block_of(name), name, 16, gamma=True).eval()
    torch.nn.init.uniform_(site.gamma)
    x = torch.randn(2, 16, 12, 8)
    program = torch.export.export(site, (x,)).run_decompositions({})
    torch.testing.assert_close(program.module()(x), site(x))
    names = [getattr(node.target, "_opname", "") for node in program.graph.nodes]
    softening = ["rsub", "mul", "rsub", "mul"] if name == "spatial" else ["mul", "add", "mul"]
    assert [n for n in names if n in ("rsub", "mul", "add")][-len(softening) :] == softening
    program = torch.export.export(site.half(), (x.half(),))
    assert program.module()(x.half()).dtype == torch.float16


def test_a_map_of_one_value_keeps_its_gradient_in_a_program() -> None:
    x = torch.randn(2, 16, 1, 1, requires_grad=True)
    program = torch.export.export(block_of("sge"), (x,))
    (gradient,) = torch.autograd.grad(program.module()(x).sum(), x)
    assert gradient.isfinite().all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("bam", "AUTO"),
        ("shuffle", "AUTO"),
        ("strip", "AUTO"),
        ("gc", "CLASSIC"),
        ("polarized", "CLASSIC"),
    ],
)
def test_opencv_reads_what_it_refused(name: str, engine: str, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    block, x, path = block_of(name), torch.randn(1, 16, 12, 8), tmp_path / "block.onnx"
    with torch.no_grad():
        torch.onnx.export(block, (x,), str(path), dynamo=True, verbose=False)
        network = cv2.dnn.readNetFromONNX(str(path), getattr(cv2.dnn, f"ENGINE_{engine}"))
        network.setInput(x.numpy())
        found = torch.from_numpy(network.forward().copy())
        torch.testing.assert_close(found, block(x), rtol=1e-4, atol=1e-5)
