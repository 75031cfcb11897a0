"""Networks whose levels lie within each other, or in one module; where each level ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import Residual, conv, same_bits, snapshot

import attnzoo
from attnzoo.backbones import create_backbone
from attnzoo.errors import NoSitesError
from attnzoo.policies.selection import PolicyCall, select
from attnzoo.registry import POLICIES
from attnzoo.tracing.probe import probe
from attnzoo.tracing.trace import Trace

SIZE = (3, 64, 64)


def smaller(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, 2, 1), nn.BatchNorm2d(made), nn.PReLU())


def larger(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(given, made, 2, 2), nn.BatchNorm2d(made), nn.PReLU())


class Joined(nn.Module):
    """What it is given, and what the levels below make of it."""

    def __init__(self, deeper: nn.Module) -> None:
        super().__init__()
        self.deeper = deeper

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.deeper(x)], 1)


def nested_unet() -> nn.Sequential:
    """A level in the module of the level above, as MONAI writes it."""
    bottom = conv(16, 32)
    middle = nn.Sequential(smaller(8, 16), Joined(bottom), larger(48, 8))
    return nn.Sequential(smaller(3, 8), Joined(middle), larger(16, 2))


class Translating(nn.Module):
    """A level of pix2pix's U-Net, the others inside."""

    def __init__(self, outer: int, inner: int, deeper: nn.Module | None, *, top: int = 0) -> None:
        super().__init__()
        down = nn.Conv2d(top or outer, inner, 4, 2, 1)
        up = nn.ConvTranspose2d(2 * inner if deeper else inner, outer, 4, 2, 1)
        before = [] if top else [nn.LeakyReLU(0.2)]
        after = [nn.Tanh()] if top else [nn.BatchNorm2d(outer)]
        within = [nn.BatchNorm2d(inner), deeper] if deeper else []
        self.model = nn.Sequential(*before, down, *within, nn.ReLU(), up, *after)
        self.top = top

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.top else torch.cat([x, self.model(x)], 1)


def translating() -> nn.Module:
    levels: nn.Module | None = None
    for outer, inner in ((16, 16), (8, 16)):
        levels = Translating(outer, inner, levels)
    return Translating(3, 8, levels, top=3)


class Hourglass(nn.Module):
    """As for poses: adds what the levels below make to what it is given."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.beside, self.pool, self.down = Residual(8), nn.MaxPool2d(2), Residual(8)
        self.deeper = Hourglass(depth - 1) if depth > 1 else Residual(8)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x) + self.up(self.deeper(self.down(self.pool(x))))


def hourglass() -> nn.Sequential:
    return nn.Sequential(conv(3, 8, pool=True), Hourglass(3), nn.Conv2d(8, 5, 1))


class UNet(nn.Module):
    """All levels in one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList([conv(3, 8), conv(8, 16), conv(16, 32)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.join = nn.ModuleList([conv(32, 16), conv(16, 8)])
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.down[0](x)]
        for block in self.down[1:]:
            maps.append(block(self.pool(maps[-1])))
        x = maps.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([maps.pop(), up(x)], 1))
        x = x * torch.sigmoid(x)  # an activation, and no gate
        return torch.sigmoid(self.last(x))


class Around(nn.Module):
    """Calls another network as a whole."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.norm, self.network = nn.BatchNorm2d(3), network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.norm(x))


class SmallUNet(UNet):
    """A U-Net with a shortcut around it, a block of the U²-Net."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.down[0], self.last = conv(made, 8), nn.Conv2d(8, made, 1)
        self.first = conv(given, made)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + super().forward(x)


class UNetOfUNets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.down1, self.down2, self.down3 = SmallUNet(3, 8), SmallUNet(8, 16), conv(16, 16)
        self.up2, self.up1 = SmallUNet(32, 8), SmallUNet(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        third = self.down3(self.pool(second))
        x = self.up2(torch.cat([second, self.up(third)], 1))
        return self.up1(torch.cat([first, self.up(x)], 1))


def around_unet() -> nn.Module:
    return Around(UNet())


def around_unets() -> nn.Module:
    return Around(UNetOfUNets())


class Masked(nn.Module):
    """A residual attention network's: what is coarser inside is a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.down = conv(8, 8), nn.Sequential(smaller(8, 8), smaller(8, 8))
        self.up = nn.Sequential(conv(8, 8), nn.Upsample(scale_factor=4), nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x) * (1 + torch.sigmoid(self.up(self.down(x))))


class Weighted(Masked):
    """Its gate is a factor of any size."""

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x) * self.up(self.down(x))


def masked() -> nn.Sequential:
    return nn.Sequential(conv(3, 8, pool=True), Masked(), nn.MaxPool2d(2), Weighted())


class Pyramid(nn.Module):
    """PSPNet's context: pooled maps that a convolution sees pixel by pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Conv2d(8, 4, 1)) for side in (1, 2, 4)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = [F.interpolate(part(x), x.shape[2:]) for part in self.parts]
        return torch.cat([x, *parts], 1)


def pyramid() -> nn.Sequential:
    return nn.Sequential(conv(3, 8, pool=True), smaller(8, 8), Pyramid(), nn.Conv2d(20, 5, 1))


class HalfResolution(nn.Module):
    """A block that works at half its resolution, as LowFormer's attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = smaller(8, 8), larger(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(x))


def half_resolution() -> nn.Sequential:
    return nn.Sequential(conv(3, 8, pool=True), smaller(8, 8), HalfResolution(), HalfResolution())


class Dual(nn.Module):
    """A block of two maps: one is added to, the other appended to (DPN)."""

    def __init__(self, given: int, stride: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(given, 16, 1, stride) if stride > 1 else None
        self.conv, self.last = smaller(given, 8) if stride > 1 else conv(given, 8), conv(8, 16)

    def forward(self, x: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([x, dense], 1)
        if self.shortcut is not None:
            x, dense = self.shortcut(both).chunk(2, 1)
        more, appended = self.last(self.conv(both)).chunk(2, 1)
        return x + more, torch.cat([dense, appended], 1)


class DualPath(nn.Module):
    """All of a network but its classifier, in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, pool=True)
        self.blocks = nn.ModuleList([Dual(16, 1), Dual(24, 2), Dual(24, 1), Dual(32, 2)])

    def forward(self, x: Tensor) -> Tensor:
        x, dense = self.stem(x).chunk(2, 1)
        for block in self.blocks:
            x, dense = block(x, dense)
        return torch.cat([x, dense], 1)


def dual_path() -> nn.Sequential:
    tail = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))
    return nn.Sequential(DualPath(), *tail)


class Pooled(DualPath):
    """The same with the last pool inside, so that it returns a pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3), keepdim=True)


def pooled() -> nn.Sequential:
    return nn.Sequential(Pooled(), nn.Flatten(), nn.Linear(24, 10))


class Reduced(nn.Module):
    """A block that looks at a much smaller map on its way, as the attention of PVT does."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.small = smaller(8, 8), nn.Conv2d(8, 8, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x * self.small(x).mean((2, 3), keepdim=True)


def reduced() -> nn.Sequential:
    return nn.Sequential(conv(3, 8, pool=True), Reduced(), Reduced())


ENDS: dict[Callable[[], nn.Module], str] = {
    nested_unet: "0.2 1.deeper.1",
    translating: "model.1 model.2.model.3.model.0 model.2.model.3.model.2",
    hourglass: "0.2 1.beside 1.down 1.deeper.down 1.deeper.deeper.deeper",
    UNet: "down.0.2 down.1.2 down.2.2",
    around_unet: "network.down.0.2 network.down.1.2 network.down.2.2",
    UNetOfUNets: "down1 down2 down3.2",
    around_unets: "network.down1 network.down2 network.down3.2",
    masked: "0.2 1 3",
    pyramid: "0.2 2",
    half_resolution: "0.2 3",
    reduced: "0.2 1 2",
    pooled: "0.stem.2 0.blocks.0.last.2 0.blocks.2.last.2 0.blocks.3.last.2",
    dual_path: "0.stem.2 0.blocks.0.last.2 0.blocks.2.last.2 0.blocks.3.last.2",
}


@pytest.mark.parametrize("build", ENDS)
def test_where_levels_end(build: Callable[[], nn.Module]) -> None:
    model, x = build().eval(), torch.randn(2, *SIZE)
    before, untouched = model(x), snapshot(model)
    plan = attnzoo.plan(model, "stage-end", "se", example=SIZE)
    assert " ".join(site.path for site in plan.sites) == ENDS[build]
    plan.apply()
    assert same_bits(model(x), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched

    attnzoo.wrap(model.train(), "stage-end", "se", example=SIZE)
    model(x).square().sum().backward()
    gammas = [p for name, p in model.named_parameters() if name.endswith(".gamma")]
    assert len(gammas) == len(plan.sites)
    assert all(gamma.grad.abs().max() > 0 for gamma in gammas)


NETWORKS = """
    torchvision/densenet121 torchvision/efficientnet_b0 torchvision/googlenet torchvision/resnet18
    torchvision/vgg11 timm/dpn48b timm/hrnet_w18_small timm/lowformer_e1 timm/selecsls42
"""


@pytest.mark.no_cover
@pytest.mark.parametrize("name", NETWORKS.split())
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_a_network_around_another_changes_no_place(name: str) -> None:
    with torch.device("meta"):
        network = create_backbone(name)
        traces = probe(network, SIZE), probe(Around(network), SIZE)
    for policy in [spec.name for spec in POLICIES if spec.name != "match"]:
        alone, within = (_places(trace, policy) for trace in traces)
        assert within == [(where, f"network.{path}") for where, path in alone], policy


def _places(trace: Trace, policy: str) -> list[tuple[str, str]]:
    try:
        return [(site.where, site.path) for site in select(trace, PolicyCall(policy)).sites]
    except NoSitesError:
        return []


@pytest.mark.parametrize(
    ("build", "blocks", "skips"),
    [
        (translating, "model.2.model.3 model.2", "model.1 model.2.model.2"),
        (around_unet, "network.join.0 network.join.1", "network.down.0 network.down.1"),
        (
            hourglass,
            "1.deeper.deeper 1.deeper 1",
            "1.beside 1.deeper.beside 1.deeper.deeper.beside",
        ),
    ],
)
def test_places_of_a_nested_decoder(
    build: Callable[[], nn.Module], blocks: str, skips: str
) -> None:
    found = attnzoo.plan(build(), "decoder", "se", example=SIZE).sites
    assert " ".join(site.path for site in found) == blocks
    found = attnzoo.plan(build(), ("decoder", {"on": "skip"}), "se", example=SIZE).sites
    assert " ".join(site.path for site in found) == skips
