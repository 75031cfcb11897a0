"""A study file that is right, what is wrong with it once changed, and its variants."""

from __future__ import annotations

from typing import Any

import pytest

from attnzoo.errors import StudyError
from attnzoo.study import parse_study

GOOD: dict[str, Any] = {
    "name": "good",
    "data": {"name": "cluttered-digits", "size": 32},
    "train": {"epochs": 2, "lr": "1e-3"},
    "seeds": [0, 1],
    "backbones": ["timm/resnet18", {"name": "torchvision/vgg11", "size": 64, "train": {"lr": 0.1}}],
    "variants": ["plain", {"policy": "auto", "block": "se", "options": {"reduction": 8}}],
    "controls": False,
}


def faults_of(**changes: Any) -> str:
    with pytest.raises(StudyError) as error:
        parse_study({**GOOD, **changes})
    return str(error.value)


def titles(variants: list[Any], **changes: Any) -> list[str]:
    content = {**GOOD, "controls": True, "variants": variants, **changes}
    return [variant.title for variant in parse_study(content).variants]


SE, CBAM = {"policy": "auto", "block": "se"}, {"policy": "stage-end", "block": "cbam"}


def product(**axes: Any) -> dict[str, Any]:
    return {"product": axes}
