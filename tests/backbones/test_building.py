"""Building for use and for a look; the first convolution and the number of channels."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from timm.models import adapt_input_conv
from torch import nn
from trained import answer_downloads, made_weights, timm_file

from attnzoo.backbones import create_backbone, draft_backbone, head_of, replace_head
from attnzoo.errors import OptionError

CONSTNET = """
import torch
from torch import nn
MEAN = torch.tensor([0.5, 0.5, 0.5]).view(3, 1, 1)
class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                  nn.Linear(8, num_classes))
    def forward(self, x):
        return self.body(x - MEAN.to(x.device))
"""


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/vgg11", "test_building:own"])
def test_the_first_convolution_is_adapted_as_timm_does(name: str, channels: int) -> None:
    torch.manual_seed(1)
    three = create_backbone(name, num_classes=4)
    torch.manual_seed(1)
    model = create_backbone(name, num_classes=4, channels=channels)
    images = torch.randn(1, channels, 64, 64)
    assert model.eval()(images).shape == (1, 4)
    first, before = (
        next(m for m in net.modules() if isinstance(m, nn.Conv2d)) for net in (model, three)
    )
    assert torch.equal(first.weight, adapt_input_conv(channels, before.weight))
    assert first.in_channels == channels
    assert (first.stride, first.padding) == (before.stride, before.padding)


def test_timm_adapts_its_own(tmp_path: Path) -> None:
    path = str(timm_file(tmp_path / "net.safetensors", "resnet18"))
    three = create_backbone("timm/resnet18", weights=path)
    grey = create_backbone("timm/resnet18", weights=path, channels=1, num_classes=3)
    assert torch.allclose(grey.conv1.weight, three.conv1.weight.sum(1, keepdim=True))
    assert grey.eval()(torch.randn(1, 1, 64, 64)).shape == (1, 3)


def own(num_classes: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, 6, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, num_classes),
    )[1:]


def test_a_draft_takes_no_memory_and_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer_downloads(monkeypatch, made_weights("resnet18"))
    model = draft_backbone("torchvision/resnet18", weights="DEFAULT", num_classes=10)
    assert model.fc.out_features == 10
    assert model.fc.weight.is_meta
    assert not asked


def test_a_draft_leaves_the_constants_of_a_module_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constnet.py").write_text(CONSTNET)
    monkeypatch.syspath_prepend(str(tmp_path))
    draft_backbone("constnet:Net", num_classes=3)
    module = sys.modules.pop("constnet")
    assert not module.MEAN.is_meta


def test_a_draft_of_what_loads_its_weights_is_quiet(tmp_path: Path) -> None:
    overlay = {"file": str(timm_file(tmp_path / "net.safetensors", "resnet18"))}
    with warnings.catch_warnings(action="error"):
        draft_backbone("timm/resnet18", pretrained=True, pretrained_cfg_overlay=overlay)


def test_a_draft_leaves_the_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    draft_backbone("test_building:own")
    draft_backbone("torchvision/regnet_y_400mf")  # computes with its weights while it is built
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_is_replaced_where_it_is_and_of_what_it_is(dtype: torch.dtype) -> None:
    model = torchvision.models.squeezenet1_1().to(dtype).eval()
    path = replace_head(model, 6)
    assert path == head_of(model) == ("classifier.1",)
    new = model.classifier[1]
    assert isinstance(new, nn.Conv2d)
    assert (new.weight.dtype, new.training, model.num_classes) == (dtype, False, 6)
    assert model(torch.randn(1, 3, 64, 64, dtype=dtype)).shape == (1, 6)


def test_what_has_no_head_says_so() -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(10, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x.mean((2, 3)), self.weight)

    with pytest.raises(OptionError, match="no head was found"):
        replace_head(ByHand(), 3)
