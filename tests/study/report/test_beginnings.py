"""Reports tell what the networks began with: trained weights, with their digest, or fresh ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies import result

from attnzoo.study import Record, export_study
from attnzoo.study.report.beginnings import beginnings
from attnzoo.train import RunSpec

NOTE = "weights: 120 of 122 tensors of r.pth (digest 12ab); its head fc of 1000 classes replaced."
INPUT = {
    **{"size": 64, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    **{"interpolation": "bicubic", "test_crop": 0.875, "channels": 3},
}


def record(backbone: str, told: dict[str, Any], **spec: Any) -> Record:
    content = {"backbone": backbone, "data": {"name": "folder", "root": "x"}, **spec}
    found = result("plain", 0, 0.5, backbone=backbone, **told)
    return Record(RunSpec.model_validate(content), found, [], Path())


@pytest.mark.parametrize(
    ("backbone", "told", "spec", "said"),
    [
        (
            "torchvision/resnet18",
            {"weights_note": NOTE, "input": INPUT},
            {"train": {"freeze": "layer2", "epochs": 4, "unfreeze": {3: "layer1"}}},
            "torchvision/resnet18 began with trained weights: 120 of 122 tensors of r.pth (digest "
            "12ab); its head fc of 1000 classes replaced by a fresh one of 7. Everything up to "
            "layer2 was held fixed, from epoch 3 on not layer1. It was given images of 64×64 "
            "pixels (interpolation bicubic; mean 0.5, 0.5, 0.5; standard deviation 0.25, 0.25, "
            "0.25; the middle 87.5% in testing).",
        ),
        ("timm/resnet18", {}, {}, "timm/resnet18 began with fresh weights, drawn from the seed."),
        (
            "timm/resnet18",
            {},
            {"backbone_options": {"pretrained": True}, "train": {"freeze": "backbone"}},
            "timm/resnet18 began with weights of timm's that its runs did not note. Everything "
            "but attention and head was held fixed.",
        ),
        ("nets:mine", {}, {}, "nets:mine began with the weights that its function gives it."),
    ],
)
def test_what_a_backbone_began_with(
    backbone: str, told: dict[str, Any], spec: dict[str, Any], said: str
) -> None:
    same = [record(backbone, told, **spec)] * 2
    assert beginnings(same, 7) == [said]


def test_two_files_of_weights_are_two_sentences() -> None:
    notes = [NOTE, NOTE.replace("12ab", "99ff")]
    found = beginnings([record("timm/resnet18", {"weights_note": n}) for n in notes], None)
    assert ["12ab" in said for said in found] == [True, False]
    assert all(said.endswith("replaced by a fresh one.") for said in found)


def test_the_report_and_its_numbers_tell_it(done: Path, tmp_path: Path) -> None:
    said = "training:tiny_net began with the weights that its function gives it."
    assert f"- {said}" in (done / "report.md").read_text()
    assert said in (done / "report.html").read_text()
    (path,) = export_study(done, json=tmp_path / "study.json")
    assert json.loads(path.read_text())["beginnings"] == [said]
