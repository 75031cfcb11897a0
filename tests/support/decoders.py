"""Segmentation networks in short, as the packages and tutorials write them that many start from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import conv

__all__ = ["DECODERS", "Encoder"]


def _down(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, 2, 1), nn.BatchNorm2d(made), nn.ReLU())


def _narrow(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 1), nn.BatchNorm2d(made), nn.ReLU())


class Encoder(nn.Module):
    """Three levels, all returned."""

    def __init__(self) -> None:
        super().__init__()
        self.s1, self.s2, self.s3 = _down(3, 16), _down(16, 32), _down(32, 64)

    def forward(self, x: Tensor) -> list[Tensor]:
        a = self.s1(x)
        b = self.s2(a)
        return [a, b, self.s3(b)]


class Up(nn.Module):
    """Up, pad, join and convolve in one module: the U-Net most copied on the web."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.up, self.conv = nn.Upsample(scale_factor=2), conv(given, made)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        height, width = (a - b for a, b in zip(skip.shape[2:], x.shape[2:], strict=True))
        x = F.pad(x, [width // 2, width - width // 2, height // 2, height - height // 2])
        return self.conv(torch.cat([skip, x], 1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = conv(3, 8), nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.conv1, self.conv2 = conv(8, 16), conv(16, 32)
        self.up1, self.up2, self.out = Up(48, 16), Up(24, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.inc(x)
        b = self.conv1(self.down1(a))
        return self.out(self.up2(self.up1(self.conv2(self.down2(b)), b), a))


class WrittenOut(nn.Module):
    """The same with everything in the forward pass of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.e1, self.e2, self.bottom = conv(3, 8), conv(8, 16), conv(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.d2, self.d1, self.out = conv(32, 16), conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.e1(x)
        b = self.e2(F.max_pool2d(a, 2))
        y = self.bottom(F.max_pool2d(b, 2))
        y = self.d2(torch.cat([self.up2(y), b], 1))
        return self.out(self.d1(torch.cat([self.up1(y), a], 1)))


class Blocks(nn.Module):
    """A decoder of blocks that are given a skip or none, as segmentation_models_pytorch has it."""

    class Block(nn.Module):
        def __init__(self, given: int, skip: int, made: int) -> None:
            super().__init__()
            self.conv1, self.conv2 = conv(given + skip, made), conv(made, made)

        def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
            x = F.interpolate(x, scale_factor=2)
            x = x if skip is None else torch.cat([x, skip], 1)
            return self.conv2(self.conv1(x))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = ((64, 32, 32), (32, 16, 16), (16, 0, 8))
            self.blocks = nn.ModuleList(Blocks.Block(*size) for size in sizes)

        def forward(self, features: list[Tensor]) -> Tensor:
            *skips, x = features
            for block, skip in zip(self.blocks, [*reversed(skips), None], strict=True):
                x = block(x, skip=skip)
            return x

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), self.Decoder()
        self.segmentation_head = nn.Sequential(nn.Conv2d(8, 3, 3, padding=1), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.segmentation_head(self.decoder(self.encoder(x)))


class Link(nn.Module):
    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        inner = given // 4
        up = nn.ConvTranspose2d(inner, inner, 4, 2, 1)
        self.block = nn.Sequential(_narrow(given, inner), up, nn.ReLU(), _narrow(inner, made))

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        y = self.block(x)
        return y if skip is None else y + skip


class LinkNet(nn.Module):
    """Skips are added in the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.out = Encoder(), nn.Conv2d(8, 2, 1)
        self.blocks = nn.ModuleList([Link(64, 32), Link(32, 16), Link(16, 8)])

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.encoder(x)
        last, middle, first = self.blocks
        return self.out(first(middle(last(c, b), a)))


class LinkNetWritten(LinkNet):
    """Skips are added by the network itself."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.encoder(x)
        last, middle, first = self.blocks
        return self.out(first(middle(last(c) + b) + a))


class Nested(nn.Module):
    """U-Net++: blocks between encoder and decoder, joined with all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.x00, self.x10, self.x20 = conv(3, 8), conv(8, 16), conv(16, 32)
        self.x01, self.x11, self.x02 = conv(24, 8), conv(48, 16), conv(32, 8)
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.x00(x)
        b = self.x10(self.pool(a))
        a1 = self.x01(torch.cat([a, self.up(b)], 1))
        b1 = self.x11(torch.cat([b, self.up(self.x20(self.pool(b)))], 1))
        return self.out(self.x02(torch.cat([a, a1, self.up(b1)], 1)))


class Gated(nn.Module):
    """Attention U-Net: what comes from below weights the skip."""

    class Gate(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.g, self.x = nn.Conv2d(channels, 8, 1), nn.Conv2d(channels, 8, 1)
            self.psi = nn.Conv2d(8, 1, 1)

        def forward(self, g: Tensor, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.psi(F.relu(self.g(g) + self.x(x))))

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(3, 8), conv(8, 16), conv(16, 32)
        self.pool, self.out = nn.MaxPool2d(2), nn.Conv2d(8, 1, 1)
        self.up2 = nn.Sequential(nn.Upsample(scale_factor=2), *conv(32, 16))
        self.up1 = nn.Sequential(nn.Upsample(scale_factor=2), *conv(16, 8))
        self.gate2, self.gate1 = self.Gate(16), self.Gate(8)
        self.d2, self.d1 = conv(32, 16), conv(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        a = self.c1(x)
        b = self.c2(self.pool(a))
        y = self.up2(self.c3(self.pool(b)))
        y = self.up1(self.d2(torch.cat([self.gate2(y, b), y], 1)))
        return self.out(self.d1(torch.cat([self.gate1(y, a), y], 1)))


class Pyramid(nn.Module):
    """A feature pyramid whose levels are enlarged and summed."""

    class Lateral(nn.Module):
        def __init__(self, skip: int) -> None:
            super().__init__()
            self.skip_conv = nn.Conv2d(skip, 16, 1)

        def forward(self, x: Tensor, skip: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=2) + self.skip_conv(skip)

    class Enlarged(nn.Module):
        def __init__(self, times: int) -> None:
            super().__init__()
            self.block, self.times = conv(16, 8), times

        def forward(self, x: Tensor) -> Tensor:
            x = self.block(x)
            for _ in range(self.times):
                x = F.interpolate(x, scale_factor=2)
            return x

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.p3, self.out = Encoder(), nn.Conv2d(64, 16, 1), nn.Conv2d(8, 2, 1)
        self.p2, self.p1 = self.Lateral(32), self.Lateral(16)
        self.branches = nn.ModuleList(self.Enlarged(times) for times in (2, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.encoder(x)
        p3 = self.p3(c)
        p2 = self.p2(p3, b)
        levels = (p3, p2, self.p1(p2, a))
        return self.out(sum(f(p) for f, p in zip(self.branches, levels, strict=True)))


class DeepLab(nn.Module):
    """DeepLabV3+: one fusion with narrowed features, and scores that are only enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.aspp, self.low = Encoder(), conv(64, 16), _narrow(16, 8)
        self.fuse, self.scores = nn.Sequential(conv(24, 16), conv(16, 16)), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, _, c = self.encoder(x)
        y = F.interpolate(self.aspp(c), size=a.shape[2:])
        y = self.scores(self.fuse(torch.cat([y, self.low(a)], 1)))
        return F.interpolate(y, size=x.shape[2:])


class Pose(nn.Module):
    """Transposed convolutions without skips: the simple baseline of pose estimation."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.final = Encoder(), nn.Conv2d(32, 17, 1)
        up = (nn.ConvTranspose2d(given, 32, 4, 2, 1) for given in (64, 32))
        layers = [[layer, nn.BatchNorm2d(32), nn.ReLU()] for layer in up]
        self.deconv = nn.Sequential(*layers[0], *layers[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.deconv(self.encoder(x)[-1]))


class Summed(nn.Module):
    """MONAI's SegResNet: what is enlarged is added to the skip, then goes through a block."""

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.a, self.b = conv(channels, channels), nn.Conv2d(channels, channels, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(self.a(x))

    def __init__(self) -> None:
        super().__init__()
        self.init, self.bottom = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(16, 32, 3, 2, 1)
        self.down = nn.ModuleList([self.Block(8), nn.Conv2d(8, 16, 3, 2, 1)])
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, made, 1), nn.Upsample(scale_factor=2))
            for given, made in ((32, 16), (16, 8))
        )
        self.up = nn.ModuleList([nn.Sequential(self.Block(16)), nn.Sequential(self.Block(8))])
        self.final = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        a = self.down[0](self.init(x))
        b = self.down[1](a)
        x = self.up[0](self.enlarge[0](self.bottom(b)) + b)
        return self.final(self.up[1](self.enlarge[1](x) + a))


class Supervised(WrittenOut):
    """Scores of every level are returned."""

    def __init__(self) -> None:
        super().__init__()
        self.out2 = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.e1(x)
        b = self.e2(F.max_pool2d(a, 2))
        y = self.bottom(F.max_pool2d(b, 2))
        y2 = self.d2(torch.cat([self.up2(y), b], 1))
        y1 = self.d1(torch.cat([self.up1(y2), a], 1))
        return self.out(y1), self.out2(y2)


#: Network → the places after its decoder's blocks, and on its skips.
DECODERS: dict[Callable[[], nn.Module], tuple[str, str]] = {
    UNet: ("up1 up2", "inc conv1"),
    WrittenOut: ("d2 d1", "e1 e2"),
    Blocks: ("decoder.blocks.0 decoder.blocks.1 decoder", "encoder.s1 encoder.s2"),
    LinkNet: ("blocks.0 blocks.1 blocks.2", "encoder.s1 encoder.s2"),
    LinkNetWritten: ("<blocks.1 <blocks.2 blocks.2", "encoder.s1 encoder.s2"),
    Nested: ("x01 x11 x02", "x00 x10"),
    Gated: ("d2 d1", "c1 c2"),
    Pyramid: ("p2 p1 <out", "encoder.s1 encoder.s2"),
    DeepLab: ("fuse", "low"),
    Pose: ("deconv.2 deconv", ""),
    Summed: ("up.0 up.1", "down.0 down.1"),
    Supervised: ("d2 d1", "e1 e2"),
}
