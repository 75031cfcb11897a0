"""Attention that is loaded into another backbone than it was saved from is loaded with a word."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

import attnzoo


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 4)),
    ).eval()


def trained() -> nn.Module:
    """Attention and a new head learned, the rest was frozen; its statistics moved."""
    model = attnzoo.wrap(net(), "pre-pool", "se", example=(3, 8, 8))
    attnzoo.freeze(model, keep=["5"])
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    for _ in range(3):
        model.train()(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    return model.eval()


def loaded(path: Path, model: nn.Module) -> str:
    """What `load` warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attnzoo.load(path, model)
    assert all(Path(warning.filename) == Path(__file__) for warning in caught)
    return " ".join(str(warning.message) for warning in caught)


def test_what_differs_is_said(tmp_path: Path):
    model, path = trained(), tmp_path / "a.safetensors"
    attnzoo.save(model, path)
    plain = copy.deepcopy(model)
    assert loaded(path, attnzoo.unwrap(plain)) == ""
    said = loaded(path, net())
    assert "2 weights (5.weight, 5.bias) and 3 statistics of norms (1.running_mean" in said
    assert 'what="trained"' in said
    half = attnzoo.unwrap(copy.deepcopy(model)).bfloat16()
    assert loaded(path, half) == ""  # rounded, which can't be compared


def test_what_was_trained_travels_along(tmp_path: Path):
    model, path = trained(), tmp_path / "a.safetensors"
    attnzoo.save(model, path, "trained")
    again = net()
    assert loaded(path, again) == ""
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(x), model(x))
    with safe_open(path, "pt") as file:
        assert "0.weight" not in file.keys()  # noqa: SIM118  # frozen
    other = net()
    nn.init.ones_(other[0].weight)
    assert "1 weights (0.weight)" in loaded(path, other)


def test_a_file_of_the_whole_network_brings_its_backbone(tmp_path: Path):
    model = trained()
    attnzoo.save(model, tmp_path / "a.safetensors", "all")
    assert loaded(tmp_path / "a.safetensors", net()) == ""
