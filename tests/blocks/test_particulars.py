"""What is particular to single blocks of channel and spatial attention."""

from __future__ import annotations

import math
from pathlib import Path

import onnxruntime
import pytest
import torch
from formulas import Weights, randomised
from patches import onnx_registry_kept
from torch import nn
from torch.nn import functional as F

import attnzoo
from attnzoo.blocks.parts import channel_groups
from attnzoo.errors import OptionError


@pytest.mark.parametrize("size", [(14, 14), (5, 9), (3, 2), (1, 1)])
@torch.no_grad()
def test_the_global_kernel_of_gather_excite_is_interpolated_bilinearly(
    size: tuple[int, int],
) -> None:
    block = randomised("ge", 6, variant="theta", resolution=7)
    x = torch.randn(4, 6, *size, dtype=torch.float64)
    gather = block.gate.gather
    kernel = F.interpolate(gather.weight, size=size, mode="bilinear", align_corners=False)
    weighed = (x * kernel[:, 0]).sum((2, 3), keepdim=True) * 49 / (size[0] * size[1])
    expected = x * torch.sigmoid(Weights(block).batch_norm("gate.gather.norm", weighed))
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["bam", "cbam", "gam", "ge", "nam", "spatial", "srm", "strip"])
@torch.no_grad()
def test_a_single_value_per_channel_is_normalised_with_the_running_statistics(name: str) -> None:
    block = randomised(name, 8).train()
    state = {key: value.clone() for key, value in block.state_dict().items()}
    x = torch.randn(1, 8, 1, 1, dtype=torch.float64)
    assert torch.equal(block(x), block.eval()(x))
    assert all(torch.equal(block.state_dict()[key], value) for key, value in state.items())


START = 1 / (1 + math.exp(-1))


@pytest.mark.parametrize(
    ("name", "value"), [("lct", START), ("sge", START), ("shuffle", START), ("srm", 0.5)]
)
def test_the_gate_starts_at_the_value_the_docstring_says(name: str, value: float) -> None:
    gate = attnzoo.create_block(name, 32).gate(torch.randn(2, 32, 6, 6))
    torch.testing.assert_close(gate, torch.full_like(gate, value))


@pytest.mark.parametrize("name", ["gct", "grn"])
def test_a_block_that_starts_as_the_identity_leaves_it_at_the_first_step(name: str) -> None:
    block = attnzoo.create_block(name, 16)
    x = torch.randn(2, 16, 6, 6)
    before = block(x)
    assert torch.equal(before, x)
    (before * torch.randn_like(x)).sum().backward()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.sub_(0.1 * parameter.grad)
    assert (block(x) - x).abs().max() > 1e-4


VARIANTS = [
    ("ge", {"variant": "minus"}),
    ("ge", {"variant": "minus", "extent": 4}),
    ("ge", {"variant": "theta"}),
    ("ge", {"variant": "theta", "extent": 8}),
    ("ge", {"variant": "plus", "extent": 2}),
    ("polarized", {"mode": "sequential"}),
]


@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
def test_variants_keep_the_contract_too(name: str, options: dict[str, object]) -> None:
    block = randomised(name, 8, **options).float()
    for training in (True, False):
        for shape in ((1, 8, 1, 1), (2, 8, 1, 7), (2, 8, 9, 6)):
            x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
            y = block.train(training)(x)
            assert y.shape == x.shape
            assert y.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(y, block(x.contiguous()), rtol=1e-4, atol=1e-4)
    large = (1e3 * torch.randn(2, 8, 12, 12)).half().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        y = block(large)
    y.float().mean().backward()
    assert y.dtype == torch.float16
    assert y.isfinite().all()
    assert large.grad.isfinite().all()

    x = torch.randn(4, 8, 9, 9, requires_grad=True)
    block.train().zero_grad()
    block(x).square().sum().backward()
    assert all(tensor.grad.abs().max() > 0 for tensor in (x, *block.parameters()))

    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    x = torch.randn(2, 8, 12, 10)
    program = torch.export.export(block.eval(), (x,), dynamic_shapes=(dynamic,))
    with onnx_registry_kept():
        model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    shapes = [(3, 8, 9, 33), (1, 8, 17, 16)]
    shapes += [(1, 8, 1, 1)] if options.get("extent", "global") == "global" else []
    for shape in shapes:
        x = torch.randn(shape)
        expected = block(x)
        torch.testing.assert_close(program.module()(x), expected)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), expected, rtol=1e-5, atol=1e-5)


def test_groups_are_the_largest_divisor_that_leaves_enough_channels() -> None:
    found = [channel_groups("test", c, 64) for c in (1, 17, 64, 96, 128, 67, 134)]
    assert found == [1, 17, 64, 48, 64, 1, 2]
    found = [channel_groups("test", c, 64, smallest=4) for c in (1, 3, 8, 17, 64, 96, 256, 2048)]
    assert found == [1, 1, 2, 1, 16, 24, 64, 64]
    with pytest.raises(OptionError, match="groups=0 must be an integer of at least 1"):
        channel_groups("test", 8, 0)


def test_shuffle_refuses_an_odd_number_of_channels_and_says_why() -> None:
    with pytest.raises(OptionError, match=r"channels=17 must be even, since one half"):
        attnzoo.create_block("shuffle", 17)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_shuffle_is_no_constant_to_the_old_exporter(tmp_path: Path) -> None:
    block, x, file = (
        randomised("shuffle", 8).float(),
        torch.randn(2, 8, 5, 6),
        tmp_path / "shuffle.onnx",
    )
    torch.onnx.export(block, (x,), file, dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), block(x), rtol=1e-5, atol=1e-5)


def test_shuffle_keeps_channels_last() -> None:
    block, x = randomised("shuffle", 8).float(), torch.randn(2, 8, 5, 6)
    last = block(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, block(x))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        *(("crisscross", "recurrence"), ("spatial", "kernel_size"), ("bam", "floor")),
        *(("mhsa", "span"), ("ge", "resolution"), ("timm:sk", "rd_divisor")),
        ("timm:lambda", "feat_size"),
    ],
)
def test_sizes_and_numbers_of_steps_have_an_end(name: str, option: str) -> None:
    value = [3, 10**6] if option == "feat_size" else 10**9 + 1
    with pytest.raises(OptionError, match=rf"{option}=10000.* and at most \d+\."):
        attnzoo.create_block(name, 8, **{option: value})


def test_a_block_that_takes_gigabytes_is_not_built() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2))
    with pytest.raises(OptionError, match=r"'gam' with \{'kernel_size': 4095.* GiB for a map of 8"):
        attnzoo.wrap(model, "pre-pool", "gam", example=(3, 8, 8), kernel_size=4095)


def test_simam_gate_of_a_single_position_is_that_of_no_distance() -> None:
    gate = attnzoo.create_block("simam", 4).gate(torch.randn(2, 4, 1, 1))
    torch.testing.assert_close(gate, torch.full_like(gate, 1 / (1 + math.exp(-0.5))))


def test_nam_stands_weights_that_are_all_zero() -> None:
    block = attnzoo.create_block("nam", 8)
    nn.init.zeros_(block.gate.norm.weight)
    x = torch.randn(2, 8, 5, 5)
    y = block(x)
    y.sum().backward()
    torch.testing.assert_close(y, x / 2)
    assert block.gate.norm.weight.grad.isfinite().all()
