"""A run's network is built again, whole, from its folder alone, and computes the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trained import Run, answer_downloads, made_weights, trained_run
from training import make_folder, spec

import attnzoo
from attnzoo.errors import CheckpointError, OptionError, UnknownNameError
from attnzoo.train import RunSpec, open_data, train
from attnzoo.trained import open_network

FRESH = """
import sys, torch, attnzoo
model = attnzoo.load(sys.argv[1])
torch.save(model(torch.load(sys.argv[2])), sys.argv[3])
"""


def test_a_fresh_process_gives_the_same_logits(run: Run, tmp_path: Path) -> None:
    network = open_network(run.folder)
    images = open_data(run.spec["data"]).test_images(range(4))
    torch.save(images, tmp_path / "images.pt")
    arguments = [str(run.folder), str(tmp_path / "images.pt"), str(tmp_path / "scores.pt")]
    subprocess.run([sys.executable, "-c", FRESH, *arguments], check=True)
    scores = torch.load(tmp_path / "scores.pt")
    with torch.no_grad():
        torch.testing.assert_close(network.model(images), scores, atol=1e-5, rtol=0)
    assert network.classes == ("cat", "dog", "emu")
    assert len(attnzoo.attention_modules(network.model)) > 0


def test_it_has_the_accuracy_that_the_run_found(run: Run) -> None:
    result = train(run.spec, run.folder)  # done already
    data = open_data(run.spec["data"])
    images, labels = next(iter(data.test_batches(100)))
    with torch.no_grad():
        scores = open_network(run.folder).model(images)
    assert float((scores.argmax(1) == labels).float().mean()) == pytest.approx(result.top1)
    assert result.kept == "network.safetensors: the network at the end"


def test_its_file_alone_does(run: Run) -> None:
    network = open_network(run.folder / "network.safetensors")
    assert network.pictures.mean == (0.5, 0.5, 0.5)
    assert network.shape == (3, 64, 64)
    checkpoint = attnzoo.load(run.folder / "network.safetensors")
    assert checkpoint.network == network.recipe


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", 1), ("googlenet", 3), ("mobilenet_v3_small", 3)]
)
def test_a_pretrained_plain_network(
    name: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_downloads(monkeypatch, made_weights(name))
    data = make_folder(tmp_path / "data", {"cat": 2, "dog": 2})
    asked = spec(
        backbone=f"torchvision/{name}",
        weights="DEFAULT",
        data={"name": "folder", "root": str(data), "size": 64, "channels": channels},
        train={"epochs": 0, "batch_size": 4, "device": "cpu"},
    )
    result = train(asked, tmp_path / "run")
    assert (result.epochs, result.images_per_second) == (0, 0)
    run = RunSpec.model_validate(asked)
    images, labels = next(iter(open_data(run.data, run.expected).test_batches(4)))
    with torch.no_grad():
        scores = attnzoo.load(tmp_path / "run")(images)
    loss = torch.nn.functional.cross_entropy(scores, labels)
    assert float(loss) == pytest.approx(result.test_loss, rel=1e-4)


def test_what_kept_its_attention_alone_says_so(tmp_path: Path) -> None:
    train(spec(keep="attention"), tmp_path / "run")
    assert not (tmp_path / "run" / "network.safetensors").exists()
    for opened in (open_network, attnzoo.load):
        with pytest.raises(CheckpointError, match="keep: all"):
            opened(tmp_path / "run")
    train(spec(), tmp_path / "run")  # done again, for now its network is wanted
    assert open_network(tmp_path / "run").classes[0] == "0"
    with pytest.raises(OptionError, match="drawn"):
        _ = open_network(tmp_path / "run").pictures


def test_a_function_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gonenet.py").write_text("from training import tiny_net\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    train(spec(backbone="gonenet:tiny_net"), tmp_path / "run")
    monkeypatch.undo()
    sys.modules.pop("gonenet")
    with pytest.raises(UnknownNameError, match="no module 'gonenet'"):
        attnzoo.load(tmp_path / "run")


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    """By a learning rate that undoes what the first epoch has learned."""
    wild = {"epochs": 4, "batch_size": 4, "device": "cpu", "optimizer": "sgd", "lr": 3.0}
    run = trained_run(tmp_path, keep="best", variant={}, train=wild | {"warmup_epochs": 0.0})
    result = train(run.spec, run.folder)
    rows = (run.folder / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("test_top1")
    scores = [float(row.split(",")[column]) for row in rows[1:]]
    data = open_data(run.spec["data"])
    images, labels = next(iter(data.test_batches(100)))
    with torch.no_grad():
        found = (attnzoo.load(run.folder)(images).argmax(1) == labels).float().mean()
    assert float(found) == pytest.approx(max(scores))
    assert f"after epoch {scores.index(max(scores)) + 1}, the best of 4" in result.kept
    assert "flatters" in result.kept
    assert not (run.folder / "best.safetensors").exists()
