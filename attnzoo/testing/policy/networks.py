"""Small networks, one of each kind that policies tell apart, to try a policy on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SIZE", "small_networks", "without_places"]

#: (C, H, W) of an image.
SIZE = (3, 64, 64)


def small_networks() -> dict[str, nn.Module]:
    """Name → a network of a few layers: plain, residual, dense, of MBConv blocks, and a U-Net."""
    return {
        "plain": nn.Sequential(*_plain(3, 8), *_plain(8, 16), *_plain(16, 32), *_head(32)),
        "residual": nn.Sequential(
            _conv(3, 8, stride=2),
            *(Residual(8), Residual(8)),
            _conv(8, 16, stride=2),
            *(Residual(16), Residual(16)),
            *_head(16),
        ),
        "dense": nn.Sequential(
            _conv(3, 8),
            *_dense(8, 4),
            *_transition(24, 8),
            *_dense(8, 4),
            *_transition(24, 8),
            *_dense(8, 4),
            *_head(24),
        ),
        "mbconv": nn.Sequential(
            _conv(3, 8, stride=2),
            *(MBConv(8, 8), MBConv(8, 16, stride=2), MBConv(16, 16), MBConv(16, 16)),
            *_head(16),
        ),
        "unet": UNet(),
    }


def without_places(size: tuple[int, ...]) -> nn.Module:
    """A network without a feature map, on meta tensors."""
    with torch.device("meta"):
        return nn.Sequential(nn.Flatten(), nn.Linear(size[0] * size[1] * size[2], 4))


def _conv(given: int, made: int, *, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(given, made, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(made), nn.ReLU(inplace=True))


def _plain(given: int, made: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(given, made, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)


def _dense(channels: int, layers: int) -> list[nn.Module]:
    return [DenseLayer(channels + 4 * i) for i in range(layers)]


def _transition(given: int, made: int) -> tuple[nn.Module, ...]:
    norm, conv = nn.BatchNorm2d(given), nn.Conv2d(given, made, 1, bias=False)
    return norm, nn.ReLU(inplace=True), conv, nn.AvgPool2d(2)


def _head(channels: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv2(self.conv1(x))))


class DenseLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(x)], 1)


class MBConv(nn.Module):
    def __init__(self, given: int, made: int, stride: int = 1) -> None:
        super().__init__()
        wide = 4 * given
        self.expand = _conv(given, wide, kernel_size=1)
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
        )
        self.project = nn.Sequential(nn.Conv2d(wide, made, 1, bias=False), nn.BatchNorm2d(made))
        self.adds = stride == 1 and given == made

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _conv(3, 8), _conv(8, 16), _conv(16, 16)
        self.pool1, self.pool2 = nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.up = _conv(32, 8)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(self.pool1(first))
        third = self.third(self.pool2(second))
        y = self.up(torch.cat([second, F.interpolate(third, scale_factor=2.0)], 1))
        return self.head(torch.cat([first, F.interpolate(y, scale_factor=2.0)], 1))
