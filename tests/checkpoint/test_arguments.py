"""A file knows all arguments that its network was traced with, and traces a plain one with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnzoo
from attnzoo import Recipe
from attnzoo.errors import CheckpointError, OptionError
from attnzoo.tracing import example_told, tell_arguments


class Trunk(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)
        )


class WithTime(Trunk):
    """A step of a diffusion network."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Embedding(10, 8)

    def forward(self, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        return self.net(x) + self.steps(t)[:, :, None, None] * cond["scale"]


class Signal(Trunk):
    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.unsqueeze(1))


class Clip(Trunk):
    """Eight frames of a clip in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).unflatten(0, (-1, 8)).mean(1)


class Bytes(Trunk):
    def forward(self, *, image: Tensor) -> Tensor:
        return self.net(image.float() / 255)


CASES = {
    "several": (
        WithTime,
        (torch.randn(2, 3, 16, 16), torch.tensor([1, 7]), {"scale": 0.5, "names": ["a", None]}),
    ),
    "a signal": (Signal, torch.randn(4, 12, 40)),
    "a batch": (Clip, torch.randn(8, 3, 16, 16)),
    "a batch's size": (Clip, (8, 3, 16, 16)),
    "of bytes, by name": (Bytes, {"image": torch.ones(1, 3, 16, 16, dtype=torch.uint8)}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_traced_is_traced_again(case: str, tmp_path: Path):
    make, example = CASES[case]
    model = attnzoo.wrap(make(), "pre-pool", "se", example=example)
    attnzoo.save(model, tmp_path / "a.safetensors")
    again = attnzoo.load(tmp_path / "a.safetensors", make())
    assert attnzoo.recipes(again) == attnzoo.recipes(model)
    (recipe,) = attnzoo.recipes(model)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_one_image_is_told_by_its_size_alone():
    model = attnzoo.wrap(Trunk().net, "pre-pool", "se", example=torch.randn(1, 3, 16, 16))
    (recipe,) = attnzoo.recipes(model)
    assert (recipe.input_size, recipe.arguments) == ((3, 16, 16), None)


def test_another_example_may_be_given(tmp_path: Path):
    class Sized(Trunk):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).view(-1, 8 * self.side**2)

    small, large = Sized(), Sized()
    small.side, large.side = 6, 14
    attnzoo.save(
        attnzoo.wrap(small, "pre-pool", "se", example=(3, 16, 16)), tmp_path / "a.safetensors"
    )
    with pytest.raises(CheckpointError, match="Pass example="):
        attnzoo.load(tmp_path / "a.safetensors", large)
    assert not attnzoo.attention_modules(large)
    attnzoo.load(tmp_path / "a.safetensors", large, example=(3, 32, 32))
    assert len(attnzoo.attention_modules(large)) == 1


@pytest.mark.parametrize(
    "item",
    [
        object(),
        {1: 2},
        torch.eye(2).to_sparse(),
        [torch.zeros(2), object()],
        type("Size", (int,), {})(3),
    ],
    ids=["object", "numbered", "sparse", "within", "subclass"],
)
def test_what_json_has_no_word_for_is_not_told(item: Any):
    assert tell_arguments((item,), {}) is None


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {"args": []},
        {"args": {}, "kwargs": {}},
        {"args": [3], "kwargs": {}},
        {"args": [{"tensor": [1], "dtype": "float31"}], "kwargs": {}},
        {"args": [{"tensor": [-1], "dtype": "float32"}], "kwargs": {}},
        {"args": [{"tensor": [2**62, 2**62], "dtype": "float32"}], "kwargs": {}},
        {"args": [{"tensor": 3, "dtype": "float32"}], "kwargs": {}},
        {"args": [{"value": [1]}], "kwargs": {}},
        {"args": [{"list": {}}], "kwargs": {}},
        {"args": [{"set": []}], "kwargs": {}},
        {"args": [], "kwargs": []},
    ],
    ids=repr,
)
def test_what_is_not_told_rightly_is_refused(told: Any):
    with pytest.raises(OptionError, match="arguments of a forward pass are told by"):
        example_told(told)
