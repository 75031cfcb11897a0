"""Networks of 3-D convolutions: attention looks at every frame by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import same_bits

import attnzoo
from attnzoo.errors import NoSitesError, TraceError
from attnzoo.hosts.attention import Attention
from attnzoo.surgery.plan import _cost
from attnzoo.tracing.example import resolve_example
from attnzoo.tracing.probe import probe

VIDEO = (1, 3, 4, 32, 32)


def network() -> nn.Module:
    return torchvision.models.video.r3d_18(num_classes=5).eval()


@torch.no_grad()
def test_a_video_network_is_wrapped_and_unwrapped() -> None:
    model, x = network(), torch.randn(2, 3, 4, 32, 32)
    keys, before = list(model.state_dict()), model(x)
    attnzoo.wrap(model, "post-residual", "cbam")
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    assert len(attentions) == 8
    assert {module.axes for module in attentions} == {"NCDHW"}
    assert same_bits(model(x), before)
    for module in attentions:
        module.gamma.fill_(0.5)
    assert not same_bits(model(x), before)
    attnzoo.unwrap(model)
    assert list(model.state_dict()) == keys
    assert same_bits(model(x), before)


@pytest.mark.parametrize("gamma", [True, False])
@torch.no_grad()
def test_each_frame_is_attended_by_itself(gamma: bool) -> None:
    block = attnzoo.create_block("local", 8)
    one, all_of_them = (
        Attention(block, "local", 8, gamma=gamma),
        Attention(block, "local", 8, gamma=gamma, axes="NCDHW"),
    )
    if gamma:
        one.gamma.uniform_()
        all_of_them.gamma.copy_(one.gamma)
    x = torch.randn(2, 8, 3, 5, 4)
    expected = torch.stack([one(frame) for frame in x.unbind(2)], 2)
    torch.testing.assert_close(all_of_them(x), expected)


def test_cost_counts_every_frame() -> None:
    four, two = (
        attnzoo.plan(network(), "post-residual", "local", example=(1, 3, frames, 32, 32))
        for frames in (4, 2)
    )
    assert [site.frames for site in four.sites] == [4, 4, 2, 2, 1, 1, 1, 1]
    first = four.sites[0]
    parameters, macs, _ = _cost(four.recipe, first)
    assert macs == 2 * _cost(two.recipe, two.sites[0])[1]
    assert parameters == sum(p.numel() for p in attnzoo.create_block("local", 64).parameters()) + 64


def test_a_video_networks_attention_is_saved_and_loaded(tmp_path: Path) -> None:
    model = attnzoo.wrap(network(), "in-residual", "se", example=VIDEO)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Attention):
                module.gamma.uniform_()
    attnzoo.save(model, tmp_path / "a.safetensors")
    again = network()
    again.load_state_dict(attnzoo.backbone_state_dict(model))
    attnzoo.load(tmp_path / "a.safetensors", again)
    x = torch.randn(VIDEO)
    assert same_bits(again(x), model(x))


def test_pools_of_a_video_network() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.MaxPool3d(2), nn.AvgPool3d((1, 2, 2)))
    plan = attnzoo.plan(model, "pre-pool", "se", example=(1, 3, 9, 16, 16))
    assert [site.path for site in plan.sites] == ["1", "2"]
    # in time alone: every frame keeps its size
    model = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.MaxPool3d((2, 1, 1)))
    with pytest.raises(NoSitesError):
        attnzoo.plan(model, "pre-pool", "se", example=(1, 3, 8, 16, 16))


def test_five_axes_that_are_no_video() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            folded = self.conv(x).unflatten(1, (2, 4))
            return folded.transpose(1, 2).flatten(1, 2)

    trace = probe(Folded(), (3, 8, 8))
    assert {value.axes for value in trace.values if len(value.shape) == 5} == {""}


def test_the_video_that_a_network_is_made_for() -> None:
    with torch.device("meta"):
        model = network()
    assert resolve_example(model)[0][0].shape == (1, 3, 16, 112, 112)
    assert attnzoo.plan(model, "auto", "se").recipe.input_size == (1, 3, 16, 112, 112)
    with pytest.raises(TraceError):
        attnzoo.plan(model, "auto", "se", example=(3, 112, 112))


class ChannelsLast(nn.Module):
    """Mixes channels as ConvNeXt does, in maps that are channels last for so long."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(F.gelu(self.wide(self.norm(x.permute(0, 2, 3, 4, 1)))))
        return x + y.permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize(
    "layer",
    [lambda: nn.InstanceNorm3d(8), lambda: nn.GroupNorm(2, 8), ChannelsLast],
    ids=["InstanceNorm3d", "GroupNorm", "ChannelsLast"],
)
@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_norms_keep_the_axes_of_a_video(layer: Callable[[], nn.Module], batch: int) -> None:
    model = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), layer(), nn.PReLU(), nn.MaxPool3d(2))
    x = torch.randn(batch, 1, 4, 6, 8)
    before = model(x)
    (site,) = attnzoo.plan(model, "pre-pool", example=x).sites
    assert (site.path, site.axes, site.frames) == ("3", "NCDHW", 4)
    attnzoo.wrap(model, "pre-pool", example=x)
    assert same_bits(model(x), before)
