"""Places that have attention, or that two policies name: refused, skipped or stacked."""

from __future__ import annotations

from typing import Any

import pytest
from refusal import refused
from zoo import BACKBONES, SIZE, PlainVGG

import attnzoo
from attnzoo.errors import SiteError
from attnzoo.hosts.attention import Attention


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("plain", "pre-pool"),
        ("resnet18", "in-residual"),
        ("resnet18", "post-residual"),
        ("resnet18", "pre-pool"),
        ("timm/regnetx_002", "auto"),
        ("timm/efficientnet_b0", ("mbconv", {"position": "se"})),
        ("timm/mobilenetv3_small_050", ("mbconv", {"position": "se"})),
    ],
)
@pytest.mark.parametrize("start", ["identity", "paper"])
def test_wrapping_twice(name: str, policy: Any, start: str) -> None:
    call, options = policy if isinstance(policy, tuple) else (policy, {})
    model = BACKBONES[name]()
    attnzoo.wrap(model, policy, "se", start=start, example=SIZE)
    count = len(attnzoo.attention_modules(model))
    refused(model, SiteError, "has attention already", policy, "eca", start=start)
    skip = (call, {**options, "occupied": "skip"})
    refused(model, SiteError, "every place", skip, "eca", start=start)
    attnzoo.wrap(model, (call, {**options, "occupied": "stack"}), "eca", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 2 * count


@pytest.mark.parametrize(
    "policies",
    [
        ["pre-pool", "pre-pool"],
        ["pre-pool", ("match", {"pattern": "features.1"})],
        [
            ("match", {"pattern": "features.1"}),
            ("match", {"pattern": "features.2", "where": "before"}),
        ],
        [("match", {"pattern": "avgpool"}), ("match", {"pattern": "avgpool"})],
        [("match", {"pattern": "features.4", "where": "replace"})] * 2,
    ],
)
def test_one_place_named_twice(policies: Any) -> None:
    refused(PlainVGG(), SiteError, "named twice", policies)
    second = policies[1] if isinstance(policies[1], tuple) else (policies[1], {})
    model = PlainVGG()
    skip = attnzoo.plan(
        model, [policies[0], (second[0], {**second[1], "occupied": "skip"})], example=SIZE
    )
    alone = attnzoo.plan(model, policies[0], example=SIZE)
    assert skip.sites == alone.sites


def test_skip_takes_the_places_that_are_free() -> None:
    model = BACKBONES["resnet18"]()
    attnzoo.wrap(model, ("in-residual", {"stages": 2}), example=SIZE)
    attnzoo.wrap(model, ("in-residual", {"occupied": "skip"}), "se", example=SIZE)
    assert [m.name for m in model.modules() if isinstance(m, Attention)] == ["local"] * 2 + [
        "se"
    ] * 6
