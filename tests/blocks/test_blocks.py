"""The contract every block keeps, swept over the registry; then what is particular to each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import pytest
import timm.layers.cbam
import torch
from patches import onnx_registry_kept
from scipy.stats import kstest
from torch import Tensor, nn

import attnzoo
from attnzoo.blocks import CBAM, EfficientChannelAttention, LocalAttention, SqueezeExcitation
from attnzoo.blocks.parts import draw_uniform, hidden_channels
from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS
from attnzoo.testing.block.check import BLOCK_CHECKS, run_checks
from attnzoo.testing.block.subject import BlockSubject, randomised

pytestmark = pytest.mark.no_cover

# The library's own: blocks of other installed packages keep this contract at home.
NAMES = [n for n in attnzoo.list_blocks() if BLOCKS[n].factory.__module__.startswith("attnzoo.")]
every_block = pytest.mark.parametrize("name", NAMES)
BAD_VALUES = {
    "dilation": (0, -4, 2.0, True, None, "four"),
    "e_lambda": (0, -1e-4, True, None, "small", math.nan),
    "extent": (0, 1, -2, 3, 6, 2.0, True, None, "local"),
    "groups": (0, -8, 2.0, True, None, "many"),
    "heads": (0, -4, 2.0, True, None, "auto"),
    "kernel_size": (0, -3, 2, 3.0, True, None, "seven"),
    "like": (0, True, None, "conv", "lcoal"),
    "like_options": (0, True, "reduction", [("reduction", 4)]),
    "mode": (0, True, None, "Parallel", "both"),
    "recurrence": (0, -2, 2.0, True, None, "two"),
    "reduction": (0, -1, 1.5, True, None, "automatic"),
    "resolution": (0, -7, 7.0, True, None, "auto"),
    "span": (0, -1, 7.0, True, None, "all"),
    "variant": (0, True, None, "θ+", "Plus"),
}
# What a limit exempts with the default options.
EXEMPT = {("mhsa", "maps"), ("shuffle", "shapes")}


@cache
def subject(name: str) -> BlockSubject:
    """A block whose program, once exported, two checks look at."""
    return BlockSubject.of(name, {})


def drawn(name: str, channels: int, **options: object) -> nn.Module:
    """The block with random parameters."""
    return randomised(attnzoo.create_block(name, channels, **options))


def test_the_sweep_covers_the_blocks_of_the_package() -> None:
    expected = (
        "a2 affine axial bam cbam conv coord crisscross danet eca ela ema ese gam gc gct ge grn "
        "lct lka local local-dynamic local-self lsk mhsa nam none nonlocal polarized scse se sge "
        "shuffle simam spatial srm strip triplet"
    )
    assert " ".join(sorted(NAMES)) == expected
    assert not [name for name in attnzoo.list_blocks() if name.startswith("timm:")]


@every_block
@pytest.mark.parametrize("check", BLOCK_CHECKS)
def test_every_block_keeps_the_contract(name: str, check: str) -> None:
    with onnx_registry_kept() if check == "onnx" else nullcontext():
        report = run_checks(subject(name), [BLOCK_CHECKS[check]])
    report.raise_if_failed()
    exempt = (name, check) in EXEMPT
    assert report[check].outcome == ("exempt" if exempt else "passed"), report


@every_block
def test_options_refuse_in_our_words(name: str) -> None:
    with pytest.raises(OptionError, match=rf"'{name}'.*'reducton'.*Its options"):
        attnzoo.create_block(name, 8, reducton=4)
    for channels in (0, -1, 8.0, True, "8"):
        with pytest.raises(OptionError, match=rf"channels={channels!r} must be an integer"):
            attnzoo.create_block(name, channels)
        with pytest.raises(OptionError, match=rf"channels={channels!r} must be an integer"):
            BLOCKS[name].factory(channels)
    for option in BLOCKS[name].options:
        assert option in BAD_VALUES, f"say in BAD_VALUES what {option} must refuse"
        for value in BAD_VALUES[option]:
            given = re.escape(f"{option}={value!r}")
            with pytest.raises(OptionError, match=rf"{given} (must be|is not one of) "):
                attnzoo.create_block(name, 8, **{option: value})


def odd_channels_are_refused() -> None:
    for channels in (1, 3, 17):
        with pytest.raises(OptionError, match=f"channels={channels} must be even"):
            attnzoo.create_block("shuffle", channels)
    report = attnzoo.testing.check_block("shuffle", checks=["shapes"])
    assert "refuses 60 of 120 maps" in report["shapes"].detail  # those of odd channels


def no_submodule_returns_the_attention() -> None:
    block, returned = drawn("mhsa", 8), []
    for module in block.modules():
        module.register_forward_hook(lambda module, args, output: returned.append(output))
    block(torch.randn(2, 8, 5, 7))
    assert not [y for y in returned if y.shape[-2:] == (35, 35)]


def a_program_of_several_windows_refuses_one_window() -> None:
    block = drawn("ge", 8, extent=4).eval()
    example = torch.randn(2, 8, 12, 10)
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    module = torch.export.export(block, (example,), dynamic_shapes=(free,)).module()
    larger = torch.randn(1, 8, 5, 9)
    torch.testing.assert_close(module(larger), block(larger))
    for size in ((4, 9), (1, 1)):
        assert block(torch.randn(1, 8, *size)).isfinite().all()
        with pytest.raises((AssertionError, RuntimeError)):
            module(torch.randn(1, 8, *size))


# Each limit, shown: one that no longer holds is noticed.
LIMITS: dict[tuple[str, str], Callable[[], None]] = {
    ("ge", "export"): a_program_of_several_windows_refuses_one_window,
    ("mhsa", "maps"): no_submodule_returns_the_attention,
    ("shuffle", "shapes"): odd_channels_are_refused,
}


def test_every_limit_is_shown_here() -> None:
    assert {(name, what) for name in NAMES for what in BLOCKS[name].limits} == set(LIMITS)


@pytest.mark.parametrize(("name", "what"), LIMITS)
def test_a_limit_is_as_the_spec_says(name: str, what: str) -> None:
    assert re.fullmatch(r"[^.].+\.", BLOCKS[name].limits[what], re.DOTALL)
    LIMITS[name, what]()


# --------------------------------------------------------------- what is particular to each


def test_local_is_the_formula_of_the_source_and_has_its_keys() -> None:
    block = LocalAttention(16, reduction_ratio=8)
    channel, spatial = "channel_attention", "spatial_attention"
    layers = {f"{channel}.1": (2, 16), f"{channel}.3": (16, 2)}
    layers |= {f"{spatial}.0": (2, 16), f"{spatial}.2": (1, 2)}
    state = block.state_dict()
    expected = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert list(state) == expected
    assert all(state[f"{layer}.weight"].shape == (*s, 1, 1) for layer, s in layers.items())

    w = {key: torch.randn_like(value) for key, value in state.items()}
    block.load_state_dict(w)
    x = torch.randn(2, 16, 5, 4)

    def conv(value: Tensor, layer: str) -> Tensor:
        weight, bias = w[f"{layer}.weight"][:, :, 0, 0], w[f"{layer}.bias"]
        return torch.einsum("oc,nchw->nohw", weight, value) + bias[:, None, None]

    mean = x.sum((2, 3), keepdim=True) / 20
    gate = torch.sigmoid(conv(conv(mean, f"{channel}.1").clamp(min=0), f"{channel}.3"))
    place = torch.sigmoid(conv(conv(x, f"{spatial}.0").clamp(min=0), f"{spatial}.2"))
    torch.testing.assert_close(block(x), x * (gate * place), rtol=1e-6, atol=1e-6)


def test_local_starts_near_uniform() -> None:
    block = LocalAttention(256)
    x = torch.randn(4, 256, 8, 8).relu()
    for branch in (block.channel_attention, block.spatial_attention):
        convolutions = [m for m in branch if isinstance(m, nn.Conv2d)]
        assert all(not m.bias.any() for m in convolutions)
        kaiming = [math.sqrt(2 / m.in_channels) for m in convolutions]
        assert convolutions[0].weight.std().item() == pytest.approx(kaiming[0], rel=0.1)
        assert convolutions[1].weight.std().item() < 0.15 * kaiming[1]
        assert (branch(x) - 0.5).abs().max() < 0.2


@pytest.mark.parametrize(
    "size", [(301, 501), (90, 90)]
)  # in several parts, the last one odd; in one
def test_drawn_weights_are_uniform_and_independent(size: tuple[int, int]) -> None:
    weight = torch.empty(size)
    draw_uniform(weight, 0.25)
    values = weight.flatten().double()
    assert kstest(values.numpy(), "uniform", args=(-0.25, 0.5)).pvalue > 0.01
    for lag in (1, 2, 3, 2**15):  # pieces of one number, places of one part and the next
        if lag < len(values):
            correlation = torch.corrcoef(torch.stack((values[lag:], values[:-lag])))[0, 1]
            assert abs(correlation) < 4 / len(values) ** 0.5
    again = torch.empty(size)
    draw_uniform(again, 0.25)
    assert (weight == again).double().mean() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_drawn_weights_of_other_types(dtype: torch.dtype) -> None:
    weight = torch.empty(200, 201, dtype=dtype)
    draw_uniform(weight, 2.0)
    assert weight.abs().max() <= 2
    assert weight.double().std().item() == pytest.approx(2 / 3**0.5, rel=0.02)
    assert weight.double().mean().item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("channels", [3, 64, 128, 200])
@pytest.mark.parametrize("name", ["se", "eca", "cbam"])
def test_equal_to_timm_on_copied_weights(name: str, channels: int) -> None:
    hidden = max(channels // 16, 1)
    if name == "se":
        block = SqueezeExcitation(channels)
        twin = timm.layers.SEModule(channels, rd_channels=hidden)
        pairs = [(block.gate.fc1, twin.fc1), (block.gate.fc2, twin.fc2)]
    elif name == "eca":
        block, twin = EfficientChannelAttention(channels), timm.layers.EcaModule(channels)
        pairs = [(block.gate.conv, twin.conv)]
    else:
        block = CBAM(channels)
        twin = timm.layers.cbam.CbamModule(channels, rd_ratio=hidden / channels)
        pairs = [(block.channel_gate.mlp[0], twin.channel.fc1)]
        pairs += [(block.channel_gate.mlp[2], twin.channel.fc2)]
        pairs += [(block.spatial_gate.conv, twin.spatial.conv.conv)]
        pairs += [(block.spatial_gate.norm, twin.spatial.conv.bn)]
    for own, other in pairs:
        own.load_state_dict(other.state_dict())
    for training in (True, False):  # the batch statistics of the first pass serve the second
        x = torch.randn(3, channels, 9, 6)
        expected = twin.train(training)(x)
        torch.testing.assert_close(block.train(training)(x), expected, rtol=1e-6, atol=1e-6)


def test_timm_and_the_paper_agree_on_the_width_where_the_docstring_says() -> None:
    for channels in (128, 256, 512):
        own, other = SqueezeExcitation(channels), timm.layers.SEModule(channels)
        assert own.gate.fc1.weight.shape == other.fc1.weight.shape


def test_eca_kernel_follows_the_channels() -> None:
    sizes = {1: 3, 7: 3, 32: 3, 64: 3, 127: 3, 128: 5, 512: 5, 1024: 5, 2048: 7}
    built = {c: EfficientChannelAttention(c).gate.conv.kernel_size[0] for c in sizes}
    assert built == sizes
    assert EfficientChannelAttention(64, kernel_size=9).gate.conv.kernel_size == (9,)


def test_auto_width_never_shrinks_as_channels_grow() -> None:
    widths = [hidden_channels("test", channels, "auto") for channels in range(1, 2049)]
    assert widths == sorted(widths)
    assert [widths[c - 1] for c in (1, 3, 8, 64, 128, 256, 512, 2048)] == [
        1, 3, 4, 16, 16, 32, 32, 128
    ]  # fmt: skip
    assert LocalAttention(64, "auto").channel_attention[1].out_channels == 16


def test_cbam_normalises_a_single_value_with_the_running_statistics() -> None:
    block = drawn("cbam", 8)
    block.spatial_gate.norm.running_var.fill_(4.0)
    state = {key: value.clone() for key, value in block.state_dict().items()}
    x = torch.randn(1, 8, 1, 1)
    assert torch.equal(block.train()(x), block.eval()(x))
    assert all(torch.equal(block.state_dict()[key], value) for key, value in state.items())


def test_affine_keeps_float32_steps_for_half_precision_inputs() -> None:
    block = attnzoo.create_block("affine", 1)
    step = 0.4 * 2**-7  # 1 + step is 1 in bfloat16; 1.75 · (1 + step) is not 1.75
    with torch.no_grad():
        block.scale.fill_(1 + step)
    y = block(torch.full((1, 1, 1, 1), 1.75, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert y.item() == 1.75 + 2**-7
