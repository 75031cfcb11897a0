"""Trained weights that need no download: a library's download function answered with made ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file


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
