"""Networks as people write them: in tutorials, in repositories that many start from, by hand.

None of their classes is known to attnzoo. Each is a shortened version, written for this test, of a
way of writing a network that is common; the table says where every policy should find a place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from handwritten import (
    SIZE,
    Denoiser,
    Dense,
    Discriminator,
    Functions,
    Inceptive,
    LinkNet,
    OneOfEach,
    OnePool,
    PoolsFirst,
    Restorer,
    Stage,
    SuperResolution,
    UNet,
    Written,
    places,
)
from torch import nn
from zoo import conv, same_bits, snapshot

import attnzoo
from attnzoo.hosts.attention import Attention

#: Network → policy → its places, in forward order; a policy that is not named finds none.
PLACES: dict[Callable[[], nn.Module], dict[str, str]] = {
    OnePool: {"pre-pool": "after conv1, after conv2", "stage-end": "after conv1, after conv2"},
    OneOfEach: {"pre-pool": "after conv1, after conv2", "stage-end": "after conv1, after conv2"},
    Functions: {"pre-pool": "after conv1, after drop", "stage-end": "after conv1, after drop"},
    lambda: nn.Sequential(conv(3, 8), PoolsFirst()): {
        "pre-pool": "before 1",
        "stage-end": "after 0.2, after 1.conv.2",
    },
    Written: {
        "pre-pool": "before layer1.3, before layer2.3, before head.0",
        "post-residual": "before layer2, before head",
        "in-residual": "after res1.1.2, after res2.1.2",
        "stage-end": "after layer1.2, after layer2.2, after res2.1.2",
    },
    lambda: nn.Sequential(conv(3, 8), Stage()): {
        "post-residual": "after 1.act",
        "in-residual": "after 1.blocks.0.2, after 1.blocks.1.2, after 1.blocks.2.2",
        "stage-end": "after 1",
    },
    Dense: {
        "pre-pool": "after trans1.conv, after trans2.conv",
        "transition": "after trans1.conv, after trans2.conv",
        "stage-end": "after dense1.3, after dense2.3, after dense3.3",
    },
    Inceptive: {"pre-pool": "before pool", "stage-end": "after first, after second"},
    UNet: {
        "pre-pool": "after down1, after down2",
        "stage-end": "after down1.2, after down2.2, after bottom.2",
        "decoder": "after join2, after join1",
    },
    LinkNet: {
        "pre-pool": "before a.3, before b.3",
        "stage-end": "after a.2, after b.2, after squeeze",
        "decoder": "before out",
    },
    Denoiser: {"stage-end": "after body.2.2"},
    Restorer: {"stage-end": "after body.2.2"},
    SuperResolution: {
        "post-residual": "after body.0, after body.1",
        "in-residual": "after body.0.body.2, after body.1.body.2",
        "stage-end": "after body.1",
    },
    Discriminator: {"stage-end": "after main.1, after main.4"},
}
POLICIES = [p for p in attnzoo.list_policies() if p not in ("match", "auto")]
AUTO = {
    **dict.fromkeys((OnePool, OneOfEach, Functions), "pre-pool"),
    **dict.fromkeys((Written, SuperResolution), "post-residual"),
    Dense: "transition",
    Inceptive: "pre-pool",
    **dict.fromkeys((UNet, Denoiser, Restorer, Discriminator), "stage-end"),
}


@pytest.mark.parametrize("build", PLACES, ids=lambda build: build.__name__)
def test_every_policy_finds_its_places(build: Callable[[], nn.Module]) -> None:
    model = build().eval()
    assert {p: found for p in POLICIES if (found := places(model, p))} == PLACES[build]


@pytest.mark.parametrize("build", AUTO, ids=lambda build: build.__name__)
def test_auto_takes_what_fits(build: Callable[[], nn.Module]) -> None:
    (policy,) = attnzoo.plan(build(), example=SIZE).recipe.policies
    assert policy.name == AUTO[build]


@pytest.mark.parametrize("build", PLACES, ids=lambda build: build.__name__)
def test_nothing_breaks_and_attention_learns(build: Callable[[], nn.Module]) -> None:
    plain = build().eval()
    x = torch.rand(2, *SIZE)
    before = plain(x)
    for policy in PLACES[build]:
        model = copy.deepcopy(plain)
        untouched = snapshot(model)
        attnzoo.wrap(model, policy, "se", example=SIZE)
        assert same_bits(model(x), before)
        attentions = [m for m in model.modules() if isinstance(m, Attention)]
        (model.train()(x) ** 2).mean().backward()
        assert all(attention.gamma.grad.isfinite().all() for attention in attentions)
        assert all(attention.gamma.grad.any() for attention in attentions)
        model.zero_grad(set_to_none=True)
        assert _modules(attnzoo.unwrap(model.eval())) == [row[:3] for row in untouched]


def _modules(model: nn.Module) -> list[tuple[Any, ...]]:
    return [row[:3] for row in snapshot(model)]
