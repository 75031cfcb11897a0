"""Places and stages are the same for any batch and any image size that a network takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_nested import nested_unet
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import Residual

import attnzoo
from attnzoo.structure import pool_calls, transitions
from attnzoo.tracing import Trace, probe

#: Side and batch of what a network is traced with.
EXAMPLES = [(32, 1), (32, 2), (128, 1), (128, 3)]


class Blur(nn.Module):
    """An anti-aliased stride: a fixed kernel on a mirrored border."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.pad = channels, nn.ReflectionPad2d((1, 2, 1, 2))
        self.register_buffer("kernel", torch.full((channels, 1, 4, 4), 1 / 16))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.pad(x), self.kernel, stride=2, groups=self.channels)


def blurred() -> nn.Sequential:
    """VGG whose max pools go pixel by pixel, with a blur behind each."""
    layers: list[nn.Module] = []
    for given, made in ((3, 8), (8, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(given, made, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 1), Blur(made)]
    return nn.Sequential(*layers)


def mirrored() -> nn.Sequential:
    """All borders mirrored by layers of their own, as in style transfer."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, 8, 7), nn.ReLU()]
    for given, made in ((8, 16), (16, 32), (32, 64)):
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(given, made, 3, 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(made, made, 3), nn.ReLU()]
    return nn.Sequential(*layers)


def normed_unet() -> nn.Module:
    """MONAI's UNet: levels within levels, instance norm everywhere."""
    model = nested_unet()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, nn.InstanceNorm2d(layer.num_features))
    return model


class Columns(nn.Module):
    """A reader of text: columns become a sequence, and their height is averaged away."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), Residual(8), nn.Conv2d(8, 200, 3, 2, 1)
        )
        self.mean, self.last = nn.AdaptiveAvgPool2d((None, 1)), nn.Linear(200, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.mean(self.layers(x).permute(0, 3, 1, 2)).squeeze(3))


class OnPatches(nn.Module):
    """A block of MobileViT, version 2: residual steps on positions in a patch × patches."""

    def __init__(self, channels: int, patch: int = 2) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)
        self.steps, self.patch = nn.Sequential(*(PatchStep(8) for _ in range(2))), patch

    def forward(self, x: Tensor) -> Tensor:
        n, p, x = len(x), self.patch, self.before(x)
        h, w = x.shape[2] // p, x.shape[3] // p
        x = x.view(n, 8, h, p, w, p).permute(0, 1, 3, 5, 2, 4).reshape(n, 8, p * p, h * w)
        x = self.steps(x).view(n, 8, p, p, h, w).permute(0, 1, 4, 2, 5, 3)
        return self.after(x.reshape(n, 8, h * p, w * p))


class PatchStep(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.look = nn.GroupNorm(1, channels), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.look(y * y.softmax(-1).sum(-1, keepdim=True))


def on_patches() -> nn.Sequential:
    """Strided residual levels, the last three with a block on patches; 4 × 4 of them at 32 px."""
    layers: list[nn.Module] = []
    for given, made in ((3, 8), (8, 16), (16, 24), (24, 32)):
        layers += [nn.Conv2d(given, made, 3, 2, 1), nn.ReLU(), Residual(made)]
        layers += [OnPatches(made)] if given > 3 else []
    return nn.Sequential(*layers)


#: Network → policy → places with their stages.
PLACES: list[tuple[Callable[[], nn.Module], str, dict[str, int]]] = [
    (blurred, "pre-pool", {"2": 1, "6": 2, "10": 3, "14": 4}),
    (blurred, "stage-end", {"2": 1, "6": 2, "10": 3, "14": 4}),
    (mirrored, "stage-end", {"2": 1, "8": 2, "14": 3, "20": 4}),
    (on_patches, "stage-end", {"2": 1, "6": 2, "10": 3, "14": 4}),
    (
        on_patches,
        "in-residual",
        {
            **{"2.bn2": 1, "5.bn2": 2, "9.bn2": 3, "13.bn2": 4},
            **{f"{i}.steps.{j}.look": s for i, s in ((6, 2), (10, 3), (14, 4)) for j in (0, 1)},
        },
    ),
    (Columns, "post-residual", {"layers.2": 2}),
    (Columns, "stage-end", {"layers.0": 1, "layers.2": 2, "layers.3": 3}),
]


def _trace(build: Callable[[], nn.Module], side: int, batch: int) -> Trace:
    return probe(build(), torch.rand(batch, 3, side, side))


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize(("build", "policy", "places"), PLACES)
def test_places_and_stages(
    build: Callable[[], nn.Module], policy: str, places: dict[str, int], example: tuple[int, int]
) -> None:
    side, batch = example
    plan = attnzoo.plan(build(), policy, "se", example=torch.rand(batch, 3, side, side))
    assert {site.path: site.stage for site in plan.sites} == places


@pytest.mark.parametrize("policy", ["stage-end", "auto"])
def test_instance_norm_is_the_same_for_any_batch(policy: str) -> None:
    plans = [
        attnzoo.plan(normed_unet(), policy, "se", example=torch.rand(batch, 3, 32, 32))
        for batch in (1, 2, 5)
    ]
    paths = [[(site.path, site.stage, site.channels) for site in plan.sites] for plan in plans]
    assert paths[0] == paths[1] == paths[2]
    plain = attnzoo.plan(nested_unet(), "stage-end", "se", example=(3, 32, 32))
    if policy == "stage-end":
        assert [site.path for site in plans[0].sites] == [site.path for site in plain.sites]


def test_a_blurred_pool_in_a_transition() -> None:
    class Dense(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(given + 8 * i, 8, 3, padding=1) for i in range(4))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.cat([x, F.relu(layer(x))], 1)
            return x

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Dense(8), nn.Conv2d(40, 20, 1), Blur(20), Dense(20)
    )
    trace = probe(model, (3, 32, 32))
    assert [call.path for call in pool_calls(trace)] == ["3"]
    (layer,) = transitions(trace)
    assert (layer.convolution.path, layer.pool.path) == ("2", "3")
