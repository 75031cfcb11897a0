"""Plain weights in and out of wrapped models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import attnzoo
from attnzoo.errors import CheckpointError

MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "densenet": lambda: timm.create_model("densenet121", num_classes=5),
    "mobilenet": lambda: timm.create_model("mobilenetv3_small_050", num_classes=5),
    "dla": lambda: timm.create_model("dla34", num_classes=5),
}
#: One case for every way attention is held: slot, insert, wrap of a layer with weights, replace.
CASES = [
    ("resnet18", "in-residual"),
    ("densenet", "stage-end"),
    ("dla", "in-residual"),
    ("mobilenet", ("mbconv", {"position": "se"})),
]


@pytest.mark.no_cover
@pytest.mark.parametrize("start", ["identity", "paper"])
@pytest.mark.parametrize(("name", "policy"), CASES)
def test_plain_weights_go_in_and_come_out_again(name: str, policy: object, start: str) -> None:
    source = MODELS[name]()
    model = attnzoo.wrap(MODELS[name](), policy, "se", start=start)
    attention = {
        f"{path}.{key}": value.clone()
        for path, block in attnzoo.attention_modules(model).items()
        for key, value in block.state_dict().items()
    }
    report = attnzoo.load_backbone(model, source.state_dict())
    assert report.complete
    assert report.loaded == len(source.state_dict())

    target = MODELS[name]()
    assert set(attnzoo.backbone_state_dict(model)) == set(target.state_dict())
    target.load_state_dict(attnzoo.backbone_state_dict(model), strict=True)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
    for key, value in attention.items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize(("name", "policy"), CASES)
def test_torchs_own_loading_takes_plain_keys(name: str, policy: object) -> None:
    source = MODELS[name]()
    model = attnzoo.wrap(MODELS[name](), policy, "se")
    result = model.load_state_dict(source.state_dict(), strict=False)
    assert not result.unexpected_keys
    paths = [f"{path.removesuffix('.block')}." for path in attnzoo.attention_modules(model)]
    assert all(key.startswith(tuple(paths)) for key in result.missing_keys)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), source.eval()(x))


def test_keys_of_a_plain_model_are_its_own() -> None:
    model = MODELS["resnet18"]()
    assert list(attnzoo.backbone_state_dict(model)) == list(model.state_dict())


def test_order_of_the_keys_is_the_plain_one() -> None:
    plain = MODELS["densenet"]()
    model = attnzoo.wrap(MODELS["densenet"](), "stage-end", "local")
    assert list(attnzoo.backbone_state_dict(model)) == list(plain.state_dict())


def test_strict_names_every_fault_and_loads_nothing() -> None:
    model = attnzoo.wrap(MODELS["resnet18"](), "in-residual", "se")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    faulty = MODELS["resnet18"]().state_dict()
    del faulty["conv1.weight"]
    faulty["fc.bias"] = torch.zeros(7)
    faulty["head.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        attnzoo.load_backbone(model, faulty)
    for part in ("conv1.weight", "fc.bias ((7,) for (5,))", "head.weight", "nothing was loaded"):
        assert part in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_without_strict_the_rest_is_loaded_and_reported() -> None:
    model = attnzoo.wrap(MODELS["resnet18"](), "in-residual", "se")
    source = torchvision.models.resnet18(num_classes=7).state_dict()
    source["head.weight"] = torch.zeros(1)
    report = attnzoo.load_backbone(model, source, strict=False)
    assert report.unexpected == ("head.weight",)
    assert len(report.mismatched) == 2
    assert not report.missing
    assert not report.complete
    assert "of another shape: fc.weight" in str(report)
    assert torch.equal(model.conv1.weight, source["conv1.weight"])


def test_a_long_report_is_cut() -> None:
    one = {"fc.bias": torch.zeros(5)}
    report = attnzoo.load_backbone(MODELS["resnet18"](), one, strict=False)
    assert report.loaded == 1
    assert f"({len(report.missing)} in all)" in str(report)


@pytest.mark.parametrize("strict", [True, False])
def test_nothing_that_fits_is_an_error(strict: bool) -> None:
    other = timm.create_model("mobilenetv3_small_050").state_dict()
    with pytest.raises(CheckpointError, match="Not one tensor fits"):
        attnzoo.load_backbone(MODELS["resnet18"](), other, strict=strict)


@pytest.mark.parametrize(
    ("nesting", "prefix"),
    [
        ((), ""),
        (("state_dict",), "module."),
        (("model",), "_orig_mod."),
        (("ema",), "module._orig_mod."),
        (("checkpoint", "model_state_dict"), "backbone."),
        ((), "encoder.trunk."),
    ],
)
@pytest.mark.parametrize("kind", ["mapping", "pt", "safetensors"])
def test_nesting_and_prefixes_are_recognised_and_said(
    nesting: tuple[str, ...], prefix: str, kind: str, tmp_path: Path
) -> None:
    source = MODELS["resnet18"]().state_dict()
    given: Any = {f"{prefix}{key}": tensor for key, tensor in source.items()}
    if kind == "safetensors":
        nesting = ()
        save_file(given, given := tmp_path / "net.safetensors")
    for name in reversed(nesting):
        given = {"epoch": 3, "lr": 0.1, name: given}
    if kind == "pt":
        torch.save(given, given := tmp_path / "net.pth")
    model = attnzoo.wrap(MODELS["resnet18"](), "in-residual", "se")
    report = attnzoo.load_backbone(model, given)
    assert (report.nesting, report.prefix) == (".".join(nesting), prefix)
    assert report.loaded == len(source)
    assert torch.equal(attnzoo.backbone_state_dict(model)["fc.weight"], source["fc.weight"])
    for part in (*nesting, prefix):
        assert part in str(report)


def test_a_moving_average_goes_before_what_was_trained() -> None:
    trained, average = (MODELS["resnet18"]().state_dict() for _ in range(2))
    model = MODELS["resnet18"]()
    attnzoo.load_backbone(model, {"model": trained, "model_ema": average})
    assert torch.equal(model.fc.weight, average["fc.weight"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no file of weights"),
        ({"epoch": 3, "optimizer": {"lr": 0.1}}, "holds no state dict: epoch, optimizer"),
        (MODELS["resnet18"], "save its state_dict"),
    ],
)
def test_a_file_that_is_none_says_why(content: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    if content is not None:
        torch.save(content() if callable(content) else content, path)
    with pytest.raises(CheckpointError) as caught:
        attnzoo.load_backbone(MODELS["resnet18"](), path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_model_on_meta_takes_the_tensors() -> None:
    source = MODELS["resnet18"]()
    with torch.device("meta"):
        model = MODELS["resnet18"]()
    attnzoo.wrap(model, "in-residual", "se")
    attnzoo.load_backbone(model, source.state_dict())
    assert torch.equal(model.conv1.weight, source.conv1.weight)


class Staged(nn.Module):
    """Its stages have a second name, registered before or after the first."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        if not first:
            del self.stages
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        if not first:
            self.stages = nn.ModuleList()
        self.stages.extend([self.one, self.two])

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


class Renaming(nn.Module):
    """Calls its layer otherwise in files than in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.register_state_dict_post_hook(_renamed)
        self.register_load_state_dict_pre_hook(_named_back)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _renamed(module: nn.Module, state: dict, prefix: str, metadata: object) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}body.0.")]:
        state[key.replace("body.0.", "conv.")] = state.pop(key)


def _named_back(module: nn.Module, state: dict, prefix: str, *rest: object) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}conv.")]:
        state[key.replace("conv.", "body.0.")] = state.pop(key)


@pytest.mark.parametrize("start", ["identity", "paper"])
@pytest.mark.parametrize("policy", ["pre-pool", ("match", {"pattern": "*.0"})])
@pytest.mark.parametrize("build", [lambda: Staged(True), lambda: Staged(False), Renaming])
def test_a_tensor_has_all_of_its_plain_names(
    tmp_path: Path, build: Callable[[], nn.Module], policy: object, start: str
) -> None:
    plain, model = build(), build()
    attnzoo.wrap(model, policy, "se", start=start, example=(3, 16, 16))
    state = attnzoo.backbone_state_dict(model)
    assert list(state) == list(plain.state_dict())
    plain.load_state_dict(state, strict=True)
    for tensor in plain.state_dict().values():
        tensor.uniform_()
    assert attnzoo.load_backbone(model, plain.state_dict()).complete
    for key, tensor in attnzoo.backbone_state_dict(model).items():
        assert torch.equal(tensor, plain.state_dict()[key])
    for what in ("attention", "all"):
        attnzoo.save(model, tmp_path / "file.safetensors", what=what)
        again = attnzoo.load(tmp_path / "file.safetensors", build())
        for parameter in attnzoo.load(tmp_path / "file.safetensors", model).parameters():
            assert parameter.isfinite().all()
        if what == "all":
            for key, tensor in model.state_dict().items():
                assert torch.equal(again.state_dict()[key], tensor)


def test_a_file_fits_where_a_stage_got_its_second_name_earlier(tmp_path: Path) -> None:
    model = attnzoo.wrap(Staged(False), "pre-pool", "se", example=(3, 16, 16))
    for block in attnzoo.attention_modules(model).values():
        for parameter in block.parameters():
            nn.init.normal_(parameter)
    attnzoo.save(model, tmp_path / "file.safetensors")
    again = attnzoo.wrap(Staged(False), "pre-pool", "se", example=(3, 16, 16))
    again._modules["stages"] = again._modules.pop("stages")
    again._modules = {"stages": again.stages, **again._modules}
    attnzoo.load(tmp_path / "file.safetensors", again)
    theirs = attnzoo.attention_modules(again).values()
    for ours, other in zip(attnzoo.attention_modules(model).values(), theirs, strict=True):
        assert torch.equal(
            nn.utils.parameters_to_vector(ours.parameters()),
            nn.utils.parameters_to_vector(other.parameters()),
        )


class Block(nn.Module):
    """A residual block as everybody writes it: attention is wrapped around its last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(torch.relu(x))))


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_of_an_attended_network_are_known_for_what_they_are(wrapped: bool) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), Block(), nn.Conv2d(4, 2, 1))

    def attended() -> nn.Module:
        return attnzoo.wrap(net(), "in-residual", "se", example=(3, 8, 8))

    state = attended().state_dict()
    assert any(".host." in key for key in state)
    model = attended() if wrapped else net()
    with pytest.raises(CheckpointError, match=r"5 of these keys are attention's.*same recipe"):
        attnzoo.load_backbone(model, state)
    report = attnzoo.load_backbone(model, state, strict=False)
    assert (report.loaded, report.missing) == (len(net().state_dict()), ())
    plain = attnzoo.backbone_state_dict(model)
    assert torch.equal(plain["1.norm.weight"], state["1.norm.host.weight"])
