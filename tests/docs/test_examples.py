"""The examples run as they stand, at tiny size, in a folder of their own.

One of them, and YOLO with its trainer, run in a process of their own, the others in this one.
"""

from __future__ import annotations

import copy
import csv
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from places import ROOT

import attnzoo
from attnzoo.cli import main

EXAMPLES = ROOT / "examples"


def _run(name: str, folder: Path, *arguments: str) -> str:
    """What the example prints."""
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run_here(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
) -> str:
    """What the example prints, run in this process, where torch is there already."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text("utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in source] == []


def test_fine_grained_on_digits(tmp_path: Path) -> None:
    printed = _run(
        "fine_grained.py", tmp_path, "--steps", "2", "--batch", "4", "--model", "test_resnet"
    )
    before, wrapped = (line.split()[-1] for line in printed.splitlines()[:2])
    assert wrapped == before
    assert "post-residual × local" in printed
    assert (tmp_path / "network.safetensors").exists()


def test_fine_grained_on_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, count in (("train", 4), ("test", 2)):
        for colour in ("red", "green"):
            folder = tmp_path / "colours" / split / colour
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (40, 40), colour).save(folder / f"{index}.png")
    options = ["--steps", "2", "--batch", "4", "--model", "mobilenetv3_small_050"]
    printed = _run_here(
        "fine_grained.py", tmp_path, monkeypatch, capsys,
        "--data", "colours", "--size", "32", *options,
    )  # fmt: skip
    assert "mbconv × local" in printed
    assert main(["predict", "network.safetensors", "colours/test"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == [
        *(f"colours/test/{colour}/{i}.png" for colour in ("green", "red") for i in range(2)),
    ]
    assert {line.split()[1] for line in lines} <= {"green", "red"}


def test_detection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--steps", "2", "--batch", "2", "--size", "48"]
    printed = _run_here("detection.py", tmp_path, monkeypatch, capsys, *tiny)
    assert "boxes, labels and scores after wrap are the same" in printed
    assert "overlap after training" in printed


def test_segmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--steps", "2", "--batch", "2", "--size", "48"]
    printed = _run_here("segmentation.py", tmp_path, monkeypatch, capsys, *tiny)
    assert "maps after wrap are the same" in printed
    assert "overlap after training" in printed


def test_yolo_trained_by_its_own_trainer(tmp_path: Path) -> None:
    tiny = ["--epochs", "1", "--images", "8", "--out", str(tmp_path)]
    printed = _run("yolo.py", tmp_path, *tiny)
    assert "its loader finds 355 of 355 plain tensors under their keys" in printed
    assert "last.pt holds post-residual × se" in printed
    assert "fused, it still has 10 blocks" in printed

    best = tmp_path / "run" / "weights" / "best.pt"
    saved = torch.load(best, weights_only=False)
    network = saved["ema"] or saved["model"]  # the trainer strips the moving average at the end
    gammas = _gammas(network)
    assert len(gammas) == 10
    assert all(gamma.any() for gamma in gammas)  # its optimizer had them
    assert len(attnzoo.unwrap(copy.deepcopy(network)).state_dict()) == 355

    with torch.no_grad():
        for gamma in gammas:
            gamma.fill_(0.5)
    torch.save(saved, best)
    _run("yolo.py", tmp_path, *tiny[:-1], str(tmp_path / "more"), "--model", str(best))
    saved = torch.load(tmp_path / "more" / "run" / "weights" / "last.pt", weights_only=False)
    for gamma in _gammas(saved["ema"] or saved["model"]):  # gone on with, not begun anew
        torch.testing.assert_close(gamma.float(), torch.full((len(gamma),), 0.5), rtol=0, atol=0.1)


def _gammas(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for name, p in network.named_parameters() if name.endswith(".gamma")]


def test_looks_and_insertion_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(
        "question: '?'\n"
        "data: {name: cluttered-digits, size: 32, train: 16, test: 16}\n"
        "train: {epochs: 1, batch_size: 16, warmup_epochs: 0}\n"
        "seeds: [0]\nkeep: all\nmeasure: false\ncontrols: false\n"
        "backbones: [timm/test_resnet]\n"
        "variants: [plain, {policy: stage-end, block: spatial}]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", "study.yaml", "--out", "made"]) == 0
    for name in ("looks.py", "insertion.py"):
        _run_here(name, tmp_path, monkeypatch, capsys, "made")
    rows = {
        name: list(csv.DictReader((tmp_path / "made" / f"{name}.csv").open(newline="")))
        for name in ("looks", "changes", "deletion", "insertion")
    }
    assert {row["when"] for row in rows["looks"]} == {"before", "after"}
    assert all(float(row["relative"]) == 0 for row in rows["changes"] if row["when"] == "before")
    assert any(float(row["relative"]) > 0 for row in rows["changes"] if row["when"] == "after")
    assert {row["order"] for row in rows["deletion"]} == {"attention", "random"}
    assert [(row["block"], row["plain"] == row["inserted"]) for row in rows["insertion"]] == [
        ("spatial", True)  # the identity start changes nothing
    ]


def test_a_published_run_comes_to_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ROOT / "docs" / "data" / "studies" / "where"
    with pytest.raises(SystemExit) as ended:
        _run_here(
            "again.py", tmp_path, monkeypatch, capsys,
            str(where), "--runs", "1", "--workers", "1", "--out", "again",
        )  # fmt: skip
    assert ended.value.code == 0
    (row,) = csv.DictReader((tmp_path / "again" / "again.csv").open(newline=""))
    published = {
        (one["variant"], one["seed"]): float(one["top1"])
        for one in csv.DictReader((where / "results.csv").open(newline=""))
    }
    assert float(row["then"]) == published[row["variant"], row["seed"]]
    assert float(row["low"]) <= float(row["now"]) <= float(row["high"])


def test_runs_done_again_are_judged_by_chance() -> None:
    again = runpy.run_path(str(EXAMPLES / "again.py"))
    low, high = again["one_more"]([0.70, 0.72, 0.74, 0.76, 0.78])
    # t(0.975, 4) = 2.776, s = 0.03162, √(1 + 1/5) = 1.0954
    assert (low, high) == pytest.approx((0.74 - 0.09617, 0.74 + 0.09617), abs=1e-4)
    inside, outside = ({"now": 0.7, "then": 0.7, "inside": one} for one in (True, False))
    assert again["verdict"]([inside] * 18 + [outside] * 2) == 0
    assert again["verdict"]([inside] * 14 + [outside] * 6) == 1
