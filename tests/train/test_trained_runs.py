"""Runs that begin with trained weights: which, how their pictures are prepared, the first loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trained import answer_downloads, made_weights
from training import make_folder, spec

from attnzoo.errors import OptionError
from attnzoo.train import RunSpec, Watch, open_data, train
from attnzoo.train.start import build
from attnzoo.weights import digest_of

TRAIN = {"epochs": 1, "batch_size": 4, "device": "cpu"}


def loud_net(num_classes: int = 10) -> nn.Module:
    """A network whose head starts far too large."""
    head = nn.Linear(4, num_classes)
    nn.init.normal_(head.weight, std=300.0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


class Said(Watch):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    remark = say


@pytest.fixture
def resnet(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    state = made_weights("resnet18")
    answer_downloads(monkeypatch, state)
    return state


@pytest.mark.parametrize("by", ["weights", "options"])
def test_torchvisions_weights_train(
    by: str, resnet: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data", {f"class {index}": 1 for index in range(10)})
    asked: dict[str, Any] = {"weights": "DEFAULT"}
    run = spec(
        backbone="torchvision/resnet18",
        data={"name": "folder", "root": str(root), "size": 32},
        train={**TRAIN, "freeze": "backbone"},
        **(asked if by == "weights" else {"backbone_options": asked}),
    )
    said = Said()
    result = train(run, tmp_path / "run", watch=said)
    assert result.weights == "torchvision/resnet18, IMAGENET1K_V1"
    assert result.weights_digest == digest_of(resnet)
    assert "122 of 122" in result.weights_note
    assert "head fc of 1000 classes replaced" in result.weights_note
    assert any("122 of 122" in line for line in said.lines)
    assert any("mean" in line and "torchvision's" in line for line in said.lines)
    assert "122 of 122" in (tmp_path / "run" / "log.txt").read_text()
    assert result.first_loss == pytest.approx(math.log(10), rel=0.5)
    assert result.input["size"] == 32
    assert result.input["test_crop"] == pytest.approx(224 / 256)
    trunk = build(RunSpec.model_validate(run), 10).model.state_dict()
    assert all(torch.equal(trunk[k], v) for k, v in resnet.items() if k[:3] != "fc.")


def test_every_seed_has_the_same_trunk_and_another_head(resnet: dict[str, torch.Tensor]) -> None:
    models = [
        build(
            RunSpec(**spec(backbone="torchvision/resnet18", weights="DEFAULT", train={"seed": s})),
            10,
        ).model
        for s in (0, 1)
    ]
    assert torch.equal(models[0].layer4[1].conv2.weight, models[1].layer4[1].conv2.weight)
    assert not torch.equal(models[0].fc.weight, models[1].fc.weight)


def test_what_is_not_given_is_what_the_weights_expect(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"cat": 2, "dog": 2})
    data = {"name": "folder", "root": str(root)}
    run = RunSpec.model_validate(
        {"backbone": "timm/tf_efficientnet_lite0", "weights": "DEFAULT", "data": data}
    )
    opened = open_data(run.data, run.expected)
    assert opened.prepared == {
        "size": 224,
        "channels": 3,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "test_crop": 0.875,
    }
    pixels = opened.test[0, 0, 0][0]
    assert -1 <= pixels.min() < -0.5 < 0.5 < pixels.max() <= 1
    given = {**data, "mean": [0.1] * 3, "size": 64, "test_crop": 1.0}
    told = open_data(run.model_copy(update={"data": given}).data, run.expected).prepared
    assert (told["mean"], told["size"], told["test_crop"]) == ([0.1] * 3, 64, 1.0)
    assert told["std"] == [0.5] * 3
    fresh = RunSpec.model_validate({"backbone": "timm/tf_efficientnet_lite0", "data": data})
    assert open_data(fresh.data, fresh.expected).prepared["mean"] == [0.485, 0.456, 0.406]


def test_a_first_loss_far_from_a_guess_is_said() -> None:
    said = Said()
    result = train(spec(backbone="test_trained_runs:loud_net"), watch=said)
    assert result.first_loss > 10
    assert any("a guess among 10 classes has 2.3" in line for line in said.lines)
    quiet = Said()
    train(spec(), watch=quiet)
    assert not any("guess" in line for line in quiet.lines)


def test_freezing_all_of_a_plain_network_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="freeze='backbone'"):
        train(spec(train={**TRAIN, "freeze": "all"}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_says_one_thread_and_small_counts() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        said = Said()
        said.end = said.say
        assert train(spec(), watch=said).device == "cpu, 1 thread"
        assert any(", 1,146 parameters" in line for line in said.lines), said.lines
    finally:
        torch.set_num_threads(threads)


def test_grey_pictures(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"cat": 4, "dog": 4})
    data = {"name": "folder", "root": str(root), "size": 32, "channels": 1}
    run = spec(backbone="torchvision/resnet18", data=data, train=TRAIN)
    opened = open_data(data)
    assert opened.shape == (1, 32, 32)
    assert opened.train[0, 0, 0][0].shape == (1, 32, 32)
    assert opened.sample(0).picture.shape == (32, 32, 3)
    assert opened.prepared["mean"] == [pytest.approx(0.449)]
    assert train(run).status == "finished"
