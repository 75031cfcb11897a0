"""Study files in which something is another, missing, twice or no text."""

from __future__ import annotations

import io
import random
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from harness import changed, damaged, fuzzer, nudged

import attnzoo
from attnzoo.cli import main
from attnzoo.cli.app import UNEXPECTED
from attnzoo.study import load_study
from attnzoo.study.definition import study_yaml

STUDY: dict[str, Any] = {
    "name": "s",
    "question": "why?",
    "data": {"name": "cluttered-digits", "size": 32, "train": 64, "test": 32},
    "train": {"epochs": 2, "batch_size": 32, "freeze": "backbone", "unfreeze": {2: "all"}},
    "seeds": [0, 1],
    "backbones": ["timm/test_resnet", {"name": "timm/test_efficientnet", "train": {"lr": 0.1}}],
    "variants": [
        "plain",
        {"policy": "stage-end", "block": "se", "options": {"reduction": 8}},
        {"policy": ["match", {"pattern": "*.bn2", "every": 2}], "block": "cbam", "start": "paper"},
        {"product": {"policy": ["auto", "plain"], "block": ["eca", "se"], "train": {"lr": [1, 2]}}},
    ],
    "exclude": [{"backbone": "timm/test_resnet", "policy": "stage-end"}],
    "controls": ["conv"],
    "difference_points": 2.0,
    "measure": False,
}


WORDS = [*attnzoo.list_blocks(), *attnzoo.list_policies(), "plain", "paper", "identity", "neutral"]
WORDS += ["stages", "every", "lr", "epochs", "seeds", "policy", "block", "options", "train", "auto"]


def case(draw: random.Random, place: Path) -> str:
    content = STUDY
    if draw.random() < 0.7:
        content = nudged(draw, content, WORDS)
    else:
        for _ in range(draw.randrange(1, 4)):
            content = changed(draw, content)
    text = yaml.dump(content, allow_unicode=True).encode("utf-8", "replace")
    if draw.random() < 0.1:
        text = damaged(draw, text)
    (place / "s.yaml").write_bytes(text)
    study = load_study(place / "s.yaml")
    (place / "again.yaml").write_text(study_yaml(study), encoding="utf-8")
    again = load_study(place / "again.yaml")
    if again.runs != study.runs:
        return "silent"
    return dry_run(place) if draw.random() < 0.04 else "right"


def dry_run(place: Path) -> str:
    """What `ablate --dry-run` makes of it: a look at every network, nothing trained or written."""
    said = io.StringIO()
    with chdir(place), redirect_stdout(said), redirect_stderr(said):
        code = main(["ablate", "s.yaml", "--dry-run", "--out", "runs"])
    if UNEXPECTED in said.getvalue() or "Traceback" in said.getvalue():
        raise RuntimeError(said.getvalue())
    if (place / "runs").exists() or (code and "error" not in said.getvalue()):
        return "silent"
    return "refused" if code else "right"


fuzz = fuzzer(case)
