"""What a run keeps of its attention maps, and when it keeps nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training import make_folder
from zoo import Gate

import attnzoo
from attnzoo.train import open_data, read_maps, train
from attnzoo.train.saved_maps import save_maps

DATA = {"name": "cluttered-digits", "size": 16, "train": 32, "test": 16, "clutter": 1}


def network(block: str = "cbam", size: int = 16) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2))
    return attnzoo.wrap(model, "pre-pool", block, example=(3, size, size), start="paper")


def test_maps_come_back_as_they_were(tmp_path: Path) -> None:
    model, data = network(), open_data(DATA)
    save_maps(model, data, tmp_path / "maps.npz")
    channel, spatial = read_maps(tmp_path / "maps.npz")
    found = attnzoo.attention_maps(model, data.test_images(range(4)))
    for kept, true in ((channel, found[0].tensor.flatten(1)), (spatial, found[1].heat)):
        truth = true.numpy()
        span = np.ptp(truth.reshape(4, -1), axis=1).max()
        assert kept.values.shape == truth.shape
        assert np.abs(kept.values - truth).max() <= span / 255
        assert (kept.values.max(), kept.values.min()) == pytest.approx((truth.max(), truth.min()))
        assert kept.gamma is None
    assert (spatial.block, spatial.emitter, spatial.height) == ("cbam", "spatial_gate", 16)
    assert (tmp_path / "maps.npz").stat().st_size < 10_000


def test_large_maps_are_averaged_down(tmp_path: Path) -> None:
    data = open_data({**DATA, "size": 128, "test": 2})
    model = network("spatial", 128)
    save_maps(model, data, tmp_path / "maps.npz")
    (kept,) = read_maps(tmp_path / "maps.npz")
    (true,) = attnzoo.attention_maps(model, data.test_images(range(2)))
    assert kept.values.shape == (2, 64, 64)
    assert (kept.height, kept.width) == (128, 128)
    halved = true.heat.view(2, 64, 2, 64, 2).mean((2, 4))
    assert np.abs(kept.values - halved.numpy()).max() < 0.01


def test_constant_maps_stay_constant(tmp_path: Path) -> None:
    model = network("spatial")
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    save_maps(model, open_data(DATA), tmp_path / "maps.npz")
    (kept,) = read_maps(tmp_path / "maps.npz")
    assert np.ptp(kept.values) == 0
    assert kept.values.flat[0] == pytest.approx(0.5)


@pytest.mark.parametrize("data", ["digits", "folder"])
def test_the_pictures_are_those_that_the_network_saw(tmp_path: Path, data: str) -> None:
    spec = DATA
    if data == "folder":
        root = make_folder(tmp_path / "images", {"cat": 6, "dog": 6})
        spec = {"name": "folder", "root": str(root), "size": 12}
    opened = open_data(spec)
    samples = [opened.sample(i) for i in range(3)]
    images = opened.test_images([sample.index for sample in samples])
    for sample, image in zip(samples, images, strict=True):
        grey = image.mean(0).flatten().numpy()
        shown = sample.picture.mean(2).flatten()
        assert np.corrcoef(grey, shown)[0, 1] > 0.99


def run(folder: Path, variant: dict[str, object]) -> None:
    train(
        {
            "backbone": "training:tiny_net",
            "variant": variant,
            "data": DATA,
            "train": {"epochs": 1, "batch_size": 16, "device": "cpu"},
        },
        folder,
    )


def test_a_finished_run_keeps_its_maps(tmp_path: Path) -> None:
    run(tmp_path / "se", {"policy": "auto", "block": "se"})
    (kept,) = read_maps(tmp_path / "se" / "maps.npz")
    assert kept.values.shape == (4, 8)
    assert 0 < kept.gamma < 1


@pytest.mark.parametrize("variant", [{}, {"policy": "auto", "block": "affine"}])
def test_a_run_without_maps_keeps_none(tmp_path: Path, variant: dict[str, object]) -> None:
    run(tmp_path / "run", variant)
    assert (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "maps.npz").exists()
    assert read_maps(tmp_path / "run" / "maps.npz") == []


@pytest.mark.usefixtures("registries")
def test_a_block_with_a_wrong_map_does_not_cost_the_run(tmp_path: Path) -> None:
    attnzoo.register_block("wrong", kind="spatial", maps={"sqash": "spatial"})(Gate)
    with pytest.warns(UserWarning, match="attention maps are left out: .*'sqash'"):
        run(tmp_path / "run", {"policy": "auto", "block": "wrong"})
    assert (tmp_path / "run" / "result.json").exists()
