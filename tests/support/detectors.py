"""Detectors in short: a trunk, a neck, and a head for all levels or one for each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import conv

__all__ = ["DilatedFPN", "EfficientDet", "Pan", "StackedBiFPN", "strided"]


def strided(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, 2, 1), nn.BatchNorm2d(made), nn.ReLU())


class Pan(nn.Module):
    """A path aggregation neck and a head for each of its levels."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = strided(3, 16), strided(16, 32), strided(32, 64)
        self.n2, self.down, self.n3 = conv(96, 32), strided(32, 32), conv(96, 64)
        self.h2, self.h3 = nn.Conv2d(32, 4, 1), nn.Conv2d(64, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.c2(self.c1(x))
        b = self.c3(a)
        p = self.n2(torch.cat([a, F.interpolate(b, scale_factor=2)], 1))
        return self.h2(p), self.h3(self.n3(torch.cat([b, self.down(p)], 1)))


class Separable(nn.Module):
    """A depthwise convolution and a linear pointwise one: nodes and heads of EfficientDet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.point, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.point(self.deep(x)))


def _fused(*maps: Tensor) -> Tensor:
    """The weighted sum of a stack, as effdet writes it."""
    return torch.stack([0.5 * one for one in maps], dim=-1).sum(dim=-1)


class StackedBiFPN(nn.Module):
    """The neck of EfficientDet, whose fusions are sums of stacks, and a head for all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = strided(3, 16), strided(16, 16), strided(16, 16)
        self.td, self.td2, self.out, self.out2 = (Separable(16) for _ in range(4))
        self.head = nn.Sequential(Separable(16), nn.ReLU(), Separable(16))

    def forward(self, x: Tensor) -> list[Tensor]:
        p1 = self.c1(x)
        p2 = self.c2(p1)
        p3 = self.c3(p2)
        up = self.td(_fused(p2, F.interpolate(p3, scale_factor=2)))
        first = self.td2(_fused(p1, F.interpolate(up, scale_factor=2)))
        second = self.out(_fused(p2, up, F.max_pool2d(first, 2)))
        third = self.out2(_fused(p3, F.max_pool2d(second, 2)))
        return [self.head(level) for level in (first, second, third)]


class DilatedFPN(nn.Module):
    """A feature pyramid on a trunk whose last levels are of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = strided(3, 16), strided(16, 16)
        self.c3 = nn.Sequential(nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.ReLU())
        self.side = nn.ModuleList(nn.Conv2d(16, 8, 1) for _ in range(3))
        self.out = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        a = self.c1(x)
        b = self.c2(a)
        p3 = self.side[2](self.c3(b))
        p2 = self.side[1](b) + p3
        p1 = self.side[0](a) + F.interpolate(p2, scale_factor=2)
        return [self.head(out(p)) for out, p in zip(self.out, (p1, p2, p3), strict=True)]


class Inverted(nn.Module):
    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.expand, self.project = nn.Conv2d(given, 4 * given, 1), nn.Conv2d(4 * given, made, 1)
        self.deep = nn.Conv2d(4 * given, 4 * given, 3, stride, 1, groups=4 * given)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(F.silu(self.deep(F.silu(self.expand(x)))))
        return x + y if x.shape == y.shape else y


class EfficientDet(nn.Module):
    """MBConv in the trunk, separable convolutions in the neck and in a head of all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 16, 3, 2, 1), Separable(16)
        self.blocks = nn.ModuleList(Inverted(16, 16, s) for s in (1, 2, 1, 2, 1))
        self.td, self.out, self.td2 = (Separable(16) for _ in range(3))
        self.head = nn.Sequential(Separable(16), nn.ReLU(), Separable(16))

    def forward(self, x: Tensor) -> list[Tensor]:
        p2 = self.first(self.stem(x))
        p3 = self.blocks[2](self.blocks[1](self.blocks[0](p2)))
        p4 = self.blocks[4](self.blocks[3](p3))
        up = self.td(F.silu(0.5 * p3 + 0.5 * F.interpolate(p4, scale_factor=2)))
        up2 = self.td2(F.silu(0.5 * p2 + 0.5 * F.interpolate(up, scale_factor=2)))
        down = self.out(F.silu(0.5 * p4 + 0.5 * F.max_pool2d(up, 2)))
        return [self.head(level) for level in (up2, up, down)]
