"""Backbones by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnzoo.backbones import create_backbone, list_backbones
from attnzoo.errors import OptionError, UnknownNameError


def small(num_classes: int = 10, width: int = 4) -> nn.Module:
    if width < 1:
        raise ValueError("width must be positive")
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.LazyLinear(num_classes))


def no_module(num_classes: int = 10) -> str:
    return "nothing"


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_libraries_build_with_the_number_of_classes(name: str) -> None:
    with torch.device("meta"):
        assert create_backbone(name, num_classes=7).fc.out_features == 7


def test_a_function_of_yours() -> None:
    assert create_backbone("test_naming:small", width=5)[0].out_channels == 5


def test_timm_names_may_carry_a_weights_tag() -> None:
    with torch.device("meta"):
        assert create_backbone("timm/resnet18.a1_in1k", num_classes=3).fc.out_features == 3


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/vgg11",
        "torchvision/fcn_resnet50",
        "timm/resnet18",
        "timm/mobilenetv3_small_050",
    ],
)
def test_nothing_is_downloaded_unasked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    with torch.device("meta"):
        create_backbone(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet18", ["'torchvision/resnet18' or 'timm/resnet18'"]),
        ("torchvision/vgg17", ["'torchvision/vgg1"]),
        ("timm/resnet81", ["'timm/resnet18'"]),
        ("torchvison/vgg16", ["no library 'torchvison'", "Did you mean 'torchvision'?"]),
        ("no_such_package.nets:small", ["no module 'no_such_package'", "PYTHONPATH"]),
        ("test_naming:smaal", ["no function 'smaal'", "'small'"]),
        ("qqqq", ["'package.module:function'"]),
    ],
)
def test_unknown_names_say_what_is_near(name: str, says: list[str]) -> None:
    with pytest.raises(UnknownNameError) as error:
        create_backbone(name)
    for text in says:
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("torchvision/vgg11", {"num_clases": 3}, "Did you mean 'num_classes'"),
        ("torchvision/vgg11", {"weights": "DEFAULTT"}, "weights='DEFAULTT'"),
        ("timm/resnet18", {"num_clases": 3}, "Did you mean 'num_classes'"),
        ("test_naming:small", {"wiidth": 3}, "Did you mean 'width'"),
        ("test_naming:small", {"width": 0}, "width must be positive"),
        ("test_naming:no_module", {}, "returned a str"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match="backbone") as error:
        create_backbone(name, **options)
    assert says in str(error.value)


def test_a_module_that_fails_to_import_says_so_itself(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_nets.py").write_text("import no_such_thing_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_at_all"):
        create_backbone("broken_nets:small")


def test_listing() -> None:
    assert list_backbones("vgg16") == ["torchvision/vgg16", "timm/vgg16"]
    assert all(name.startswith("timm/") for name in list_backbones("timm/vgg*"))
    assert "torchvision/densenet121" in list_backbones("torchvision/*")
