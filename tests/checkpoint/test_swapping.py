"""Another file's attention in the same places, or nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from zoo import outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import CheckpointError, NotWrappedError

X = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def net(block: str, policy: Any = "in-residual", seed: int = 1) -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=5).eval()
    torch.manual_seed(seed)
    return attnzoo.wrap(model, policy, block, start="paper", example=(3, 64, 64))


@pytest.mark.parametrize("block", ["se", "eca"])
def test_another_files_attention_takes_the_places(block: str, tmp_path: Path) -> None:
    theirs = net(block, seed=2)
    attnzoo.save(theirs, tmp_path / "theirs.safetensors")
    model = net("se")
    assert not same_bits(outputs(model, X), outputs(theirs, X))
    assert attnzoo.swap(model, tmp_path / "theirs.safetensors") is model
    assert same_bits(outputs(model, X), outputs(theirs, X))
    assert attnzoo.recipes(model) == attnzoo.recipes(theirs)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    attnzoo.save(net("se", "post-residual"), tmp_path / "elsewhere.safetensors")
    model = net("se")
    before = snapshot(model)
    with pytest.raises(CheckpointError, match="which are not the 8 of this ResNet"):
        attnzoo.swap(model, tmp_path / "elsewhere.safetensors")
    with pytest.raises(CheckpointError):
        attnzoo.swap(model, tmp_path / "nowhere.safetensors")
    assert snapshot(model) == before
    with pytest.raises(NotWrappedError):
        attnzoo.swap(attnzoo.unwrap(model), tmp_path / "elsewhere.safetensors")
    two = attnzoo.wrap(net("se"), "post-residual", "eca", name="b", example=(3, 64, 64))
    with pytest.raises(CheckpointError, match="has 2 insertions"):
        attnzoo.swap(two, tmp_path / "elsewhere.safetensors")
