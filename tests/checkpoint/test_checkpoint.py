"""Saving and loading: the file, its header, what fits and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import attnzoo
from attnzoo.errors import CheckpointError, NotWrappedError, OptionError, UnknownNameError

SIZE = (3, 64, 64)


def resnet() -> nn.Module:
    return torchvision.models.resnet18(num_classes=5)


def mobilenet() -> nn.Module:
    return timm.create_model("mobilenetv3_small_050", num_classes=5)


def trained(model: nn.Module) -> nn.Module:
    """As if attention had learned something: every attention parameter is random."""
    for module in attnzoo.attention_modules(model).values():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.5)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            nn.init.normal_(parameter)
    return model.eval()


def outputs(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model.eval()(torch.randn(2, *SIZE))


@pytest.mark.parametrize("start", ["identity", "paper"])
@pytest.mark.parametrize(
    ("build", "policy"),
    [
        (resnet, "in-residual"),
        (resnet, ["pre-pool", ("post-residual", {"stages": [3]})]),
        (mobilenet, ("mbconv", {"position": "se"})),
    ],
)
def test_attention_alone_goes_onto_the_same_backbone(
    tmp_path: Path, build: Callable[[], nn.Module], policy: object, start: str
) -> None:
    plain = build()
    model = build()
    model.load_state_dict(plain.state_dict())
    attnzoo.wrap(model, policy, "se", start=start, example=SIZE, reduction=4)
    trained(model)
    attnzoo.save(model, tmp_path / "a.safetensors")

    again = attnzoo.load(tmp_path / "a.safetensors", plain)
    assert again is plain
    assert torch.equal(outputs(again), outputs(model))
    assert attnzoo.recipes(again) == attnzoo.recipes(model)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict()) - set(_backbone_keys(model))


def _backbone_keys(model: nn.Module) -> list[str]:
    attention = tuple(f"{path}." for path in attnzoo.attention_modules(model))
    gammas = tuple(
        path.rpartition(".block")[0] + ".gamma" for path in attnzoo.attention_modules(model)
    )
    return [
        key for key in model.state_dict() if not key.startswith(attention) and key not in gammas
    ]


def test_all_weights_go_onto_a_fresh_model(tmp_path: Path) -> None:
    model = trained(attnzoo.wrap(resnet(), "stage-end", "local", example=SIZE))
    attnzoo.save(model, tmp_path / "all.safetensors", what="all")
    again = attnzoo.load(tmp_path / "all.safetensors", resnet())
    assert torch.equal(outputs(again), outputs(model))
    assert list(again.state_dict()) == list(model.state_dict())


def test_a_wrapped_submodule_is_found_again(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(resnet(), nn.Linear(5, 2))

    model = build()
    attnzoo.wrap(model[0], "in-residual", "eca", example=SIZE)
    trained(model)
    attnzoo.save(model, tmp_path / "all.safetensors", "all")
    again = attnzoo.load(tmp_path / "all.safetensors", build())
    assert torch.equal(outputs(again), outputs(model))


def test_loading_into_a_model_that_is_wrapped_already(tmp_path: Path) -> None:
    model = trained(attnzoo.wrap(resnet(), "in-residual", "se", example=SIZE))
    attnzoo.save(model, tmp_path / "a.safetensors")
    again = attnzoo.wrap(resnet(), "in-residual", "se", example=SIZE)
    attnzoo.load(tmp_path / "a.safetensors", again)
    for key, tensor in attnzoo.load(tmp_path / "a.safetensors").tensors.items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_loading_onto_meta_takes_the_tensors_of_the_file(tmp_path: Path) -> None:
    model = trained(attnzoo.wrap(resnet(), "in-residual", "se", example=SIZE))
    attnzoo.save(model, tmp_path / "all.safetensors", "all")
    with torch.device("meta"):
        empty = resnet()
    again = attnzoo.load(tmp_path / "all.safetensors", empty)
    assert torch.equal(outputs(again), outputs(model))


def test_without_a_model_the_contents_come_back(tmp_path: Path) -> None:
    model = attnzoo.wrap(resnet(), ("in-residual", {"stages": (3, 4)}), "se", reduction=8)
    attnzoo.save(model, tmp_path / "a.safetensors")
    checkpoint = attnzoo.load(tmp_path / "a.safetensors")
    assert checkpoint.model == "ResNet"
    assert checkpoint.what == "attention"
    (where, recipe, sites), *more = checkpoint.recipes
    assert not more
    assert where == ""
    assert (recipe.block, recipe.options) == ("se", {"reduction": 8})
    assert recipe.policies[0].options == {"stages": [3, 4]}
    assert sites[0] == "after layer2.0.bn2 128"


# --- what does not fit ------------------------------------------------------------------------


def state(model: nn.Module) -> tuple[object, ...]:
    modules = [(path, type(module)) for path, module in model.named_modules()]
    return modules, {key: value.clone() for key, value in model.state_dict().items()}


def same_state(model: nn.Module, before: tuple[object, ...]) -> bool:
    modules, tensors = state(model)
    same = all(torch.equal(tensors[k], before[1][k]) for k in tensors)
    return modules == before[0] and list(tensors) == list(before[1]) and same


def test_another_network_is_refused_and_left_alone(tmp_path: Path) -> None:
    attnzoo.save(attnzoo.wrap(resnet(), "in-residual", "se"), tmp_path / "a.safetensors")
    for other, says in (
        (torchvision.models.vgg11(num_classes=5), "found no site in VGG"),
        (torchvision.models.resnet34(num_classes=5), "at other places"),
    ):
        before = state(other)
        with pytest.raises(CheckpointError, match=says):
            attnzoo.load(tmp_path / "a.safetensors", other)
        assert same_state(other, before)


def test_weights_of_another_shape_are_refused_and_nothing_is_copied(tmp_path: Path) -> None:
    model = attnzoo.wrap(resnet(), "in-residual", "se")
    path = tmp_path / "a.safetensors"
    attnzoo.save(model, path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    first = sorted(tensors)[0]
    for change, says in (
        ({first: torch.zeros(3)}, rf"{first} is \(3,\), not"),
        ({"extra": torch.zeros(3)}, "extra is not in the model"),
    ):
        save_file({**tensors, **change}, path, metadata=header)
        plain = resnet()
        before = state(plain)
        with pytest.raises(CheckpointError, match=says):
            attnzoo.load(path, plain)
        assert same_state(plain, before)
    save_file({k: v for k, v in tensors.items() if k != first}, path, metadata=header)
    with pytest.raises(CheckpointError, match=f"{first} is missing"):
        attnzoo.load(path, resnet())


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file"):
        attnzoo.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("not safetensors")
    with pytest.raises(CheckpointError, match="is not a checkpoint of attnzoo"):
        attnzoo.load(tmp_path / "text")
    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match="did not write it"):
        attnzoo.load(tmp_path / "plain.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", metadata={"attnzoo": "99"})
    with pytest.raises(CheckpointError, match="format 99"):
        attnzoo.load(tmp_path / "new.safetensors")
    header = {"attnzoo": "1", "model": "M", "what": "all"}
    save_file({"x": torch.zeros(1)}, tmp_path / "half.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match="operations"):
        attnzoo.load(tmp_path / "half.safetensors")


def test_a_recipe_with_an_unknown_block_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    attnzoo.save(attnzoo.wrap(resnet(), "in-residual", "se"), path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    described = json.loads(header["operations"])
    described[0]["recipe"]["block"] = "ses"
    save_file(tensors, path, metadata={**header, "operations": json.dumps(described)})
    with pytest.raises((CheckpointError, UnknownNameError), match="ses"):
        attnzoo.load(path, resnet())


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = attnzoo.wrap(resnet(), "in-residual", "se")
    path = tmp_path / "a.safetensors"
    attnzoo.save(model, path)
    before = path.read_bytes()

    def fails_midway(tensors: object, name: str, metadata: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("attnzoo.checkpoint.tensor_files.save_file", fails_midway)
    with pytest.raises(CheckpointError, match="disk full"):
        attnzoo.save(model, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(NotWrappedError):
        attnzoo.save(resnet(), tmp_path / "a.safetensors")
    model = attnzoo.wrap(resnet(), "in-residual", "se")
    with pytest.raises(OptionError, match="what='atention'"):
        attnzoo.save(model, tmp_path / "a.safetensors", "atention")
    with pytest.raises(CheckpointError, match="there is no folder"):
        attnzoo.save(model, tmp_path / "none" / "a.safetensors")
    with pytest.raises(CheckpointError, match="meta device"):
        attnzoo.save(model.to("meta"), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_option_that_is_no_json_is_named(tmp_path: Path, registries: None) -> None:
    @attnzoo.register_block("with-class")
    class WithClass(nn.Module):
        def __init__(self, channels: int, act: type[nn.Module] = nn.ReLU) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(channels))
            self.act = act()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x) * self.scale.view(1, -1, 1, 1)

    model = attnzoo.wrap(resnet(), "in-residual", "with-class", act=nn.SiLU)
    with pytest.raises(CheckpointError, match="not plain JSON"):
        attnzoo.save(model, tmp_path / "a.safetensors")
