"""Networks of transformers: what is saved is the plain network, and the attention beside it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnzoo
from attnzoo.errors import CheckpointError
from attnzoo.hosts import Attention

transformers: Any = pytest.importorskip("transformers")

SIZE = (3, 32, 32)
POLICIES = [
    "auto",
    ("match", {"type": "Conv2d", "where": "after"}),  # hosts with weights of their own
    ("match", {"type": "ResNetBasicLayer", "where": "after"}),
]


def plain() -> Any:
    config = transformers.ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        layer_type="basic",
        num_labels=4,
    )
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(config).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return model


def opened(model: nn.Module) -> Any:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Attention) and module.gamma is not None:
                module.gamma.normal_()
    return model


def scores(model: Any) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model(torch.randn(2, *SIZE)).logits


@pytest.mark.parametrize("policy", POLICIES)
def test_attention_is_kept_and_the_plain_network_too(policy: Any, tmp_path: Path) -> None:
    bare = scores(plain())
    model = opened(attnzoo.wrap(plain(), policy, "se", example=SIZE))
    assert len(attnzoo.attention_modules(model)) >= 2
    assert any(".host.weight" in key for key in model.state_dict()) == ("Conv2d" in str(policy))
    folder = attnzoo.save_pretrained(model, tmp_path / "shared", license="mit")
    names = {file.name for file in folder.iterdir()}
    assert {"README.md", "attention.safetensors", "config.json", "model.safetensors"} <= names
    again = attnzoo.from_pretrained(folder)
    assert type(again) is type(model)
    assert torch.equal(scores(again), scores(model))
    assert not torch.equal(scores(model), bare)
    # Anybody else has the plain network, with nothing missing and nothing new.
    loaded, told = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(told.values())
    assert torch.equal(scores(loaded.eval()), bare)
    assert torch.equal(scores(attnzoo.from_pretrained(folder, loaded).eval()), scores(model))
    assert "from_pretrained` loads the plain network alone" in (folder / "README.md").read_text()


def test_attention_that_comes_while_the_network_is_built_is_warned_of(tmp_path: Path) -> None:
    plain().save_pretrained(tmp_path)

    class Attended(transformers.ResNetForImageClassification):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            attnzoo.wrap(self, "auto", "se", example=SIZE)

    with pytest.warns(UserWarning, match=r"Attended\.from_pretrained\(…\) first, then attnzoo"):
        Attended.from_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built = Attended(plain().config)  # with memory: γ is zero
        loaded = transformers.ResNetForImageClassification.from_pretrained(tmp_path).eval()
        model = attnzoo.wrap(loaded, "auto", "se", example=SIZE)
    assert not any(m.gamma.any() for m in built.modules() if isinstance(m, Attention))
    assert torch.equal(scores(model), scores(plain()))


def test_a_class_that_transformers_has_not_is_not_guessed(tmp_path: Path) -> None:
    class Mine(transformers.ResNetForImageClassification):
        pass

    model = attnzoo.wrap(Mine(plain().config).eval(), "auto", "se", example=SIZE)
    folder = attnzoo.save_pretrained(opened(model), tmp_path / "shared")
    with pytest.raises(CheckpointError, match="holds a Mine, which is no class of transformers"):
        attnzoo.from_pretrained(folder)
    again = attnzoo.from_pretrained(folder, Mine.from_pretrained(folder)).eval()
    assert torch.equal(scores(again), scores(model))
