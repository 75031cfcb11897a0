"""What is no module is told by all that take a model, not by an AttributeError inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from zoo import PlainVGG

import attnzoo
from attnzoo.errors import CheckpointError, OptionError, UnsupportedModelError

TAKERS: dict[str, Callable[[Any], Any]] = {
    "wrap": attnzoo.wrap,
    "cost": attnzoo.cost,
    "unwrap": attnzoo.unwrap,
    "recipes": attnzoo.recipes,
    "attention_modules": attnzoo.attention_modules,
    "save": lambda model: attnzoo.save(model, "x"),
    "backbone_state_dict": attnzoo.backbone_state_dict,
    "load_backbone": lambda model: attnzoo.load_backbone(model, {}),
    "freeze": attnzoo.freeze,
    "unfreeze": attnzoo.unfreeze,
    "param_groups": lambda model: attnzoo.param_groups(model, lr=0.1),
    "attention_maps": lambda model: attnzoo.attention_maps(model, torch.zeros(1)),
    "fuse": attnzoo.fuse,
    "unfuse": attnzoo.unfuse,
}


@pytest.mark.parametrize("name", TAKERS)
def test_what_is_no_module_is_told(name: str) -> None:
    for given in (None, [nn.Identity()]):
        with pytest.raises(UnsupportedModelError, match=f"got {type(given).__name__}"):
            TAKERS[name](given)


def test_names_of_files_that_the_system_does_not_take(tmp_path: Path) -> None:
    model = attnzoo.wrap(PlainVGG(), "pre-pool", "se", example=(3, 16, 16))
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(CheckpointError):
            attnzoo.save(model, tmp_path / name)
        with pytest.raises(CheckpointError):
            attnzoo.load(tmp_path / name)
    attnzoo.save(model, bytes(tmp_path / "bytes"))
    assert attnzoo.load(bytes(tmp_path / "bytes")).model == "PlainVGG"
    with pytest.raises(OptionError, match="network=5 must be"):
        attnzoo.save(model, tmp_path / "file", network=5)


def test_an_input_that_no_tensor_could_hold_is_told() -> None:
    with pytest.raises(OptionError, match="no tensor is so large"):
        attnzoo.plan(PlainVGG(), "pre-pool", example=(3, 2**40, 2**40))
