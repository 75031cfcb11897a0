"""How attention starts: from γ = 0 or as in the paper, and from which weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, SIZE, PlainVGG, example, outputs, same_bits

import attnzoo
from attnzoo.blocks import LocalAttention
from attnzoo.hosts.attention import Attention


def test_gradients_reach_gamma_and_the_backbone_trains_as_before() -> None:
    plain, wrapped = _twins()
    attnzoo.wrap(wrapped, "pre-pool", "se", example=SIZE)
    x = example()
    plain.train()(x).square().sum().backward()
    wrapped.train()(x).square().sum().backward()
    theirs = dict(wrapped.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(theirs[name].grad, parameter.grad), name
    for module in wrapped.modules():
        if isinstance(module, Attention):
            assert module.gamma.grad.abs().sum() > 0
    plain_buffers, buffers = dict(plain.named_buffers()), dict(wrapped.named_buffers())
    assert all(torch.equal(buffers[name], value) for name, value in plain_buffers.items())


def _twins(make: Callable[[], nn.Module] = PlainVGG) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(3)
    one = make()
    torch.manual_seed(3)
    return one, make()


def test_blocks_of_equal_width_start_from_different_weights() -> None:
    model = attnzoo.wrap(BACKBONES["resnet18"](), "in-residual", "se", example=SIZE)
    first, second = list(attnzoo.attention_modules(model).values())[:2]
    assert not torch.equal(first.gate.fc1.weight, second.gate.fc1.weight)


def test_the_seed_decides_how_blocks_start() -> None:
    weights = []
    for seed in (1, 1, 2):
        model = PlainVGG()
        torch.manual_seed(seed)
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
        weights.append(next(iter(attnzoo.attention_modules(model).values())).gate.fc1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class _ByHand(nn.Module):
    """PlainVGG with local attention written in before each pool."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        old = list(model.features)
        new = [*old[:2], LocalAttention(8), *old[2:6], LocalAttention(16), old[6]]
        self.features = nn.Sequential(*new)
        self.avgpool, self.classifier = model.avgpool, model.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def test_paper_start_equals_the_network_edited_by_hand() -> None:
    model, twin = _twins()
    attnzoo.wrap(model, "pre-pool", "local", start="paper", example=SIZE, floor=1)
    by_hand = _ByHand(twin)
    for mine, theirs in zip(
        attnzoo.attention_modules(model).values(),
        (by_hand.features[2], by_hand.features[7]),
        strict=True,
    ):
        theirs.load_state_dict(mine.state_dict())
    x = example()
    assert same_bits(outputs(model, x), outputs(by_hand, x))
    model.train()(x).sum().backward()
    by_hand.train()(x).sum().backward()
    assert torch.equal(model.features[0].weight.grad, by_hand.features[0].weight.grad)
    assert not same_bits(outputs(attnzoo.unwrap(model), x), outputs(by_hand, x))


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18"])
def test_paper_start_in_a_slot_is_before_the_addition(name: str) -> None:
    plain, model = _twins(BACKBONES[name])
    attnzoo.wrap(
        model, ("in-residual", {"include": "layer1.0.*"}), "se", start="paper", example=SIZE
    )
    (attention,) = attnzoo.attention_modules(model).values()
    block = plain.eval().layer1[0]
    x = F.relu(torch.randn(2, 64, 8, 8))
    with torch.no_grad():
        act1, act2 = (block.act1, block.act2) if name.startswith("timm") else (block.relu,) * 2
        branch = block.bn2(block.conv2(act1(block.bn1(block.conv1(x)))))
        expected = act2(attention(branch) + x)
        assert torch.equal(model.eval().layer1[0](x), expected)
