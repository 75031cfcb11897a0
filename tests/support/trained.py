"""Trained weights that need no download: a library's download function answered with made ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from training import make_folder

from attnzoo.train import train


def made_weights(name: str, seed: int = 3) -> dict[str, torch.Tensor]:
    """A torchvision network's state dict of 1,000 classes, drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torchvision.models.get_model(name).state_dict()


def answer_downloads(monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]) -> list[str]:
    """Let torchvision's downloads be `state`; the addresses that were asked for."""
    asked: list[str] = []

    def answer(url: str, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        asked.append(url)
        return dict(state)

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", answer)
    return asked


def timm_file(path: Path, name: str) -> Path:
    """A file of weights of timm's network, with as many classes as its own."""
    import timm

    save_file(timm.create_model(name).state_dict(), path)
    return path


@dataclass(frozen=True)
class Run:
    """A run that kept its network: its folder, its data, and the spec."""

    folder: Path
    data: Path
    spec: dict[str, Any]


def trained_run(place: Path, **changes: Any) -> Run:
    """A small network with attention, trained for an epoch on a folder of pictures."""
    data = make_folder(place / "data", {"cat": 6, "dog": 4, "emu": 3})
    spec = {
        "backbone": "timm/test_resnet",
        "variant": {"policy": "post-residual", "block": "cbam"},
        "data": {"name": "folder", "root": str(data), "size": 64, "mean": [0.5] * 3},
        "train": {"epochs": 2, "batch_size": 4, "device": "cpu", "attention_lr_scale": 10},
        **changes,
    }
    train(spec, place / "run")
    return Run(place / "run", data, spec)
