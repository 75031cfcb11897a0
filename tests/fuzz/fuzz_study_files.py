"""Study files in which something is another, missing, twice or no text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml
from harness import changed, damaged, fuzzer

from attnzoo.study import load_study
from attnzoo.study.definition import study_yaml

STUDY: dict[str, Any] = {
    "name": "s",
    "question": "why?",
    "data": {"name": "cluttered-digits", "size": 32, "train": 64, "test": 32},
    "train": {"epochs": 1, "batch_size": 32, "unfreeze": {2: "all"}},
    "seeds": [0, 1],
    "backbones": ["torchvision/resnet18", {"name": "timm/test_resnet", "train": {"lr": 0.1}}],
    "variants": [
        "plain",
        {"policy": "pre-pool", "block": "se", "options": {"reduction": 8}},
        {"policy": ["in-residual", {"stages": [3, 4]}], "block": "cbam", "start": "paper"},
        {"product": {"policy": ["auto", "plain"], "block": ["eca", "se"], "train": {"lr": [1, 2]}}},
    ],
    "exclude": [{"backbone": "timm/test_resnet", "policy": "pre-pool"}],
    "controls": ["conv"],
    "difference_points": 2.0,
    "measure": False,
}


def case(draw: random.Random, place: Path) -> str:
    content = STUDY
    for _ in range(draw.randrange(1, 4)):
        content = changed(draw, content)
    text = yaml.dump(content, allow_unicode=True).encode("utf-8", "replace")
    if draw.random() < 0.3:
        text = damaged(draw, text)
    (place / "s.yaml").write_bytes(text)
    study = load_study(place / "s.yaml")
    (place / "again.yaml").write_text(study_yaml(study), encoding="utf-8")
    again = load_study(place / "again.yaml")
    return "right" if again.runs == study.runs else "silent"


fuzz = fuzzer(case)
