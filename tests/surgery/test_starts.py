"""The three starts, on networks: what `wrap` leaves as it was, what learns, and what it refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from zoo import BACKBONES, PlainVGG, example, outputs, same_bits

import attnzoo
from attnzoo.errors import OptionError, SiteError
from attnzoo.hosts.attention import Attention
from attnzoo.registry import BLOCKS

SIZE = (3, 64, 64)
NEUTRAL = [
    spec.name for spec in BLOCKS if spec.neutral and spec.factory.__module__.startswith("attnzoo.")
]
FAMILIES = {
    "vgg11": "pre-pool",
    "resnet18": "in-residual",
    "densenet121": ("transition", {"every": 2}),
    "efficientnet_b0": ("mbconv", {"every": 4}),
}


def attentions(model: nn.Module) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]


@pytest.mark.no_cover
@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_neutral_start_leaves_the_outputs_bitwise(backbone: str) -> None:
    model = BACKBONES[backbone]()
    before = outputs(model)
    for block in NEUTRAL:
        attnzoo.wrap(model, FAMILIES[backbone], block, start="neutral", example=SIZE)
        assert same_bits(outputs(model), before), block
        assert all(module.gamma is None for module in attentions(model))
        attnzoo.unwrap(model)


def test_the_neutral_start_costs_what_the_papers_does() -> None:
    model = PlainVGG()
    for block in NEUTRAL:
        plans = [
            attnzoo.plan(model, "pre-pool", block, start=start, example=SIZE)
            for start in ("neutral", "paper")
        ]
        assert plans[0].parameters == plans[1].parameters, block
        assert plans[0].macs == plans[1].macs, block
        assert "start=neutral" in str(plans[0])


@pytest.mark.parametrize("block", ["bam", "simam", "shuffle", "timm:se"])
def test_other_blocks_are_refused_with_the_reason(block: str) -> None:
    model = PlainVGG()
    with pytest.raises(OptionError, match=f"block '{block}' has no start=\"neutral\": ") as caught:
        attnzoo.wrap(model, "pre-pool", block, start="neutral", example=SIZE)
    assert BLOCKS[block].limits.get("neutral", "it does not say how") in str(caught.value)
    assert 'start="identity"' in str(caught.value)
    assert not attentions(model)


def test_a_variant_that_cannot_is_refused_when_it_is_planned() -> None:
    model = PlainVGG()
    with pytest.raises(OptionError, match="no layer that could start at zero"):
        attnzoo.plan(model, "pre-pool", "ge", start="neutral", example=SIZE, variant="minus")
    paper = attnzoo.plan(model, "pre-pool", "ge", start="paper", example=SIZE, variant="minus")
    assert len(paper.sites) == 2


@pytest.mark.usefixtures("registries")
def test_a_block_that_only_says_so_is_refused() -> None:
    attnzoo.register_block("says-so", neutral=True)(lambda channels: nn.Identity())
    with pytest.raises(OptionError, match="has no method start_neutral"):
        attnzoo.plan(PlainVGG(), "pre-pool", "says-so", start="neutral", example=SIZE)


def test_the_place_of_a_module_is_refused() -> None:
    model = BACKBONES["efficientnet_b0"]()
    policy = ("mbconv", {"position": "se"})
    with pytest.raises(SiteError, match=r'start="neutral".*in the place of a module'):
        attnzoo.wrap(model, policy, "se", start="neutral", example=SIZE)
    assert not attentions(model)


@pytest.mark.parametrize("start", ["identity", "neutral", "paper"])
@pytest.mark.parametrize("block", ["local", "cbam", "a2"])
def test_files_keep_the_start(tmp_path: Path, block: str, start: str) -> None:
    model = attnzoo.wrap(PlainVGG(), "pre-pool", block, start=start, example=SIZE).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(example()).square().mean().backward()
    optimizer.step()
    attnzoo.save(model, tmp_path / "file", what="all")
    again = attnzoo.load(tmp_path / "file", PlainVGG())
    assert attnzoo.recipes(again)[0].start == start
    assert same_bits(outputs(again), outputs(model))
    assert same_bits(outputs(copy.deepcopy(again)), outputs(model))
    assert [m.start for m in attentions(again)] == [start] * 2
    assert f"start={start!r}" in repr(attentions(again)[0])


def test_a_file_from_before_the_floor_loads(tmp_path: Path) -> None:
    model = attnzoo.wrap(PlainVGG(), "pre-pool", "se", floor=1, example=SIZE)
    attnzoo.save(model, tmp_path / "new")
    with safe_open(tmp_path / "new", framework="pt") as file:
        header = dict(file.metadata())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    (operation,) = json.loads(header["operations"])
    del operation["recipe"]["format"], operation["recipe"]["options"]["floor"]
    header["operations"] = json.dumps([operation])
    save_file(tensors, tmp_path / "old", metadata=header)
    again = attnzoo.load(tmp_path / "old", PlainVGG())
    assert [m.gate.fc1.out_channels for m in attnzoo.attention_modules(again).values()] == [1, 1]
    for key, tensor in tensors.items():
        assert torch.equal(again.state_dict()[key], tensor)


@pytest.mark.parametrize("block", ["lka", "lsk", "local", "cbam", "axial", "a2", "conv"])
@pytest.mark.parametrize("size", [1e3, 3e4])
def test_gamma_of_zero_lets_no_overflow_in(block: str, size: float) -> None:
    """In fp16 a block may overflow where the network does not."""
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.MaxPool2d(2))
    nn.init.dirac_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    x = torch.randn(2, 8, 12, 12) * size
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        expected = model(x)
        attnzoo.wrap(model, "pre-pool", block, example=(8, 12, 12))
        found = model.eval()(x)
    assert same_bits(found, expected)
