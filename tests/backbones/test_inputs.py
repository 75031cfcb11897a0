"""What weights expect of pictures, told by the libraries without building anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from trained import timm_file

from attnzoo.backbones import InputOptions, input_options

HALF = (0.5, 0.5, 0.5)


def test_fresh_weights_expect_imagenets_usual_statistics() -> None:
    assert input_options("timm/tf_efficientnet_lite0") == InputOptions()
    assert InputOptions().mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("weights", ["DEFAULT", "in1k", True])
def test_timms(weights: object) -> None:
    found = input_options("timm/tf_efficientnet_lite0", weights)
    assert (found.mean, found.std, found.size) == (HALF, HALF, 224)
    assert (found.interpolation, found.test_crop) == ("bicubic", 0.875)


def test_timms_depend_on_the_tag() -> None:
    crops = {input_options("timm/resnet50", tag).test_crop for tag in ("a1_in1k", "tv_in1k")}
    assert crops == {0.95, 0.875}


def test_timms_own_way_of_asking() -> None:
    assert input_options("timm/tf_efficientnet_lite0", None, {"pretrained": True}).mean == HALF


def test_torchvisions() -> None:
    found = input_options("torchvision/resnet50", "IMAGENET1K_V2")
    assert (found.size, found.interpolation) == (224, "bilinear")
    assert found.test_crop == pytest.approx(224 / 232)
    assert input_options("torchvision/efficientnet_b3", "DEFAULT").size == 300
    assert input_options("torchvision/fcn_resnet50", "DEFAULT") == InputOptions()


def test_a_files_are_those_of_the_published_weights(tmp_path: Path) -> None:
    path = str(timm_file(tmp_path / "net.safetensors", "tf_efficientnet_lite0"))
    assert input_options("timm/tf_efficientnet_lite0", path).mean == HALF
    assert input_options("pretrained/efficientnet_lite0").mean == HALF
