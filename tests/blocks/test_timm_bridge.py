"""Every layer of timm as a block, with timm's own names, options and limits."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm.layers
import torch
import torchvision
from timm.layers.create_attn import get_attn
from torch import nn
from zoo import outputs, same_bits

import attnzoo
from attnzoo.blocks.timm_bridge import TIMM_LAYERS, TIMM_LIMITS
from attnzoo.cli import main
from attnzoo.errors import OptionError, UnknownNameError
from attnzoo.hosts import Attention
from attnzoo.registry import BLOCKS
from attnzoo.testing import check_block

pytestmark = pytest.mark.no_cover

SIZE = (3, 64, 64)
CHANNELS = 64
# What is given to fit a map of 8×8, and to work at all.
GIVEN: dict[str, dict[str, Any]] = {
    "bat": {"block_size": 4},
    "bottleneck": {"feat_size": (8, 8)},
    "ge": {"use_mlp": False},
    "halo": {"block_size": 4, "halo_size": 1},
}
every_layer = pytest.mark.parametrize("name", TIMM_LAYERS)


def build(name: str, channels: int = CHANNELS) -> nn.Module:
    return attnzoo.create_block(f"timm:{name}", channels, **GIVEN.get(name, {}))


def limit(name: str, what: str) -> str:
    return BLOCKS[f"timm:{name}"].limits.get(what, "")


def names_in_timm() -> set[str]:
    """What `get_attn` compares `attn_type` with."""
    tree = ast.parse(inspect.getsource(get_attn))
    compared = (node for node in ast.walk(tree) if isinstance(node, ast.Compare))
    return {item.value for node in compared for item in node.comparators}


def test_the_bridge_has_every_name_of_timm() -> None:
    assert set(TIMM_LAYERS) == names_in_timm(), "timm gained or lost a layer"
    assert attnzoo.list_blocks("timm:*") == [f"timm:{name}" for name in sorted(TIMM_LAYERS)]
    assert set(TIMM_LIMITS) <= set(TIMM_LAYERS)
    assert not [name for name in attnzoo.list_blocks() if ":" in name]
    assert attnzoo.list_blocks("timm:*cbam") == ["timm:cbam", "timm:lcbam"]


@every_layer
def test_the_spec_says_what_the_layer_is(name: str) -> None:
    spec = BLOCKS[f"timm:{name}"]
    assert BLOCKS[f"timm:{name}"] is spec
    assert f"timm:{name}" in BLOCKS
    assert (spec.name, spec.kind) == (f"timm:{name}", TIMM_LAYERS[name])
    layer = get_attn(name)
    cls = getattr(layer, "func", layer)
    assert cls.__name__ in spec.title
    assert spec.summary == f"{cls.__module__}.{cls.__name__}, with its options."
    assert not spec.maps
    assert spec.limits["maps"]
    assert not set(spec.options) & {"device", "dtype", "stride", "dim_out", "out_channels"}
    assert type(build(name)) is cls


@every_layer
@torch.no_grad()
def test_the_layer_is_timms_own_and_keeps_the_shape(name: str) -> None:
    torch.manual_seed(3)
    block = build(name).eval()
    torch.manual_seed(3)
    twin = timm.layers.create_attn(name, CHANNELS, **GIVEN.get(name, {})).eval()
    x = torch.randn(2, CHANNELS, 8, 8)
    assert block(x).shape == x.shape
    assert torch.equal(block(x), twin(x))


@every_layer
@pytest.mark.parametrize("check", ["shapes", "gradients", "compile", "export"])
def test_what_a_layer_does_not_keep_is_a_limit(name: str, check: str) -> None:
    report = check_block(f"timm:{name}", checks=[check], **GIVEN.get(name, {}))
    report.raise_if_failed()
    assert report[check].outcome == ("exempt" if limit(name, check) else "passed"), report
    assert check != "compile" or not limit(name, check)


def test_a_layer_that_its_name_alone_does_not_build_has_this_as_a_limit() -> None:
    refused = {}
    for name in TIMM_LAYERS:
        try:
            attnzoo.create_block(f"timm:{name}", CHANNELS)
        except OptionError as error:
            refused[name] = str(error)
    assert set(refused) == {"bottleneck", "ge"}
    assert "feat_size=(H, W), which must be given" in limit("bottleneck", "shapes")
    assert "pass False" in limit("ge", "options")
    for name, message in refused.items():
        assert message.endswith(" ".join(TIMM_LIMITS[name].values()))


@every_layer
def test_identity_at_init_is_declared_exactly_where_it_holds(name: str) -> None:
    x = torch.randn(2, CHANNELS, 8, 8)
    same = torch.equal(build(name).eval()(x), x)
    assert same == BLOCKS[f"timm:{name}"].identity_at_init


# ------------------------------------------------------------------------------ in a model


def test_a_layer_that_lays_its_map_out_otherwise_leaves_the_outputs_bitwise() -> None:
    """timm's `nl` is the identity at first, and returns its map channels last."""
    model = resnet()
    before = outputs(model)
    attnzoo.wrap(model, "post-residual", "timm:nl", example=SIZE)
    x = torch.randn(2, 64, 6, 5)
    (attention, *_) = [m for m in model.modules() if isinstance(m, Attention)]
    attention.eval()
    assert attention.block(x).stride() != x.stride()
    assert attention(x).stride() == x.stride()
    assert same_bits(outputs(model), before)


def resnet() -> nn.Module:
    return torchvision.models.resnet18(num_classes=5)


@pytest.mark.parametrize("start", ["identity", "paper"])
def test_a_model_wrapped_with_timms_layer_is_saved_and_loaded(tmp_path: Path, start: str) -> None:
    plain = resnet()
    model = copy.deepcopy(plain)
    before = outputs(model)
    attnzoo.wrap(model, "in-residual", "timm:se", start=start, example=SIZE, rd_ratio=0.25)
    blocks = attnzoo.attention_modules(model)
    assert len(blocks) == 8
    assert {type(block) for block in blocks.values()} == {timm.layers.SEModule}
    assert same_bits(outputs(model), before) == (start == "identity")
    for key, parameter in model.named_parameters():
        if "attn" in key:
            nn.init.normal_(parameter, std=0.5)

    (recipe,) = attnzoo.recipes(model)
    assert (recipe.block, dict(recipe.options)) == ("timm:se", {"rd_ratio": 0.25})
    attnzoo.save(model, tmp_path / "se.safetensors")
    again = attnzoo.load(tmp_path / "se.safetensors", copy.deepcopy(plain))
    assert attnzoo.recipes(again) == attnzoo.recipes(model)
    assert same_bits(outputs(again), outputs(model))
    attnzoo.unwrap(again)
    assert same_bits(outputs(again), before)


def test_a_layer_that_does_not_fit_leaves_the_model_as_it_was() -> None:
    model = resnet()
    before, keys = outputs(model), list(model.state_dict())
    with pytest.raises(OptionError, match="'timm:se' has no option 'reduction'"):
        attnzoo.wrap(model, "in-residual", "timm:se", example=SIZE, reduction=4)
    with pytest.raises(
        OptionError, match=r"timm:sk: SelectiveKernel\(64, groups=7\) of timm fails"
    ):
        attnzoo.wrap(model, "in-residual", "timm:sk", example=SIZE, groups=7)
    assert list(model.state_dict()) == keys
    assert same_bits(outputs(model), before)


# ------------------------------------------------------------------------------ refused


def test_a_misspelt_layer_lists_the_closest_and_all_of_timms() -> None:
    with pytest.raises(UnknownNameError) as caught:
        attnzoo.create_block("timm:cbma", 8)
    message = str(caught.value)
    assert message.startswith("no block is called 'timm:cbma'. Did you mean 'timm:cbam'")
    assert f"There are: {', '.join(attnzoo.list_blocks('timm:*'))}." in message
    for name in ("timm:", "timm:local", "tim:se", "timm", "Timm:se"):
        assert name not in BLOCKS
        with pytest.raises(UnknownNameError):
            attnzoo.create_block(name, 8)


def test_a_layer_that_an_older_timm_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(name: str) -> type[nn.Module]:
        raise AssertionError(f"Invalid attn module ({name})")

    monkeypatch.setattr(sys.modules["timm.layers.create_attn"], "get_attn", older)
    BLOCKS._families["timm"][1].cache_clear()
    with pytest.raises(
        UnknownNameError, match=r"timm 1\..* has no attention layer 'strip'; a newer"
    ):
        attnzoo.create_block("timm:strip", 8)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("se", {"reducton": 4}, r"'timm:se' has no option 'reducton'\..* Its options: rd_ratio"),
        ("se", {"device": "cpu"}, "'timm:se' has no option 'device'"),
        ("sk", {"stride": 2}, "'timm:sk' has no option 'stride'"),
        ("se", {"bias": "no"}, "timm:se: bias='no' must be True or False"),
        ("eca", {"kernel_size": "3"}, "timm:eca: kernel_size='3' must be a number"),
        ("eca", {"kernel_size": True}, "timm:eca: kernel_size=True must be"),
        ("se", {"rd_ratio": float("nan")}, "timm:se: rd_ratio=nan must be a number"),
        ("bat", {"block_size": None}, "timm:bat: block_size=None must be a number"),
        ("bottleneck", {}, r"BottleneckAttn\(64\) of timm fails with AssertionError: .*feat_size"),
        (
            "halo",
            {"num_heads": 7},
            r"HaloAttn\(64, num_heads=7\) of timm fails with AssertionError",
        ),
        ("splat", {"radix": 5}, r"SplitAttn\(64, radix=5\).*C must be a multiple of radix\."),
    ],
)
def test_unknown_options_and_values_are_refused(
    name: str, options: dict[str, object], says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        attnzoo.create_block(f"timm:{name}", 64, **options)


@every_layer
@pytest.mark.parametrize("channels", [0, -1, 8.0, True, "8"])
def test_channels_are_checked(name: str, channels: object) -> None:
    with pytest.raises(OptionError, match=r"channels=.* must be an integer of at least 1"):
        attnzoo.create_block(f"timm:{name}", channels)
    factory: Callable[..., nn.Module] = BLOCKS[f"timm:{name}"].factory
    with pytest.raises(OptionError, match=r"channels=.* must be an integer of at least 1"):
        factory(channels)


def test_the_command_line_explains_a_layer_of_timm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["blocks", "timm:cbam"]) == 0
    printed = capsys.readouterr().out
    assert "CbamModule of timm" in printed
    assert "shapes: In training it raises on a single value" in printed
