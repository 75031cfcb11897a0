"""Segmentation and face networks in short, with heads, decoders and pools of their own ways."""

from __future__ import annotations

import torch
from decoders import Up
from detectors import strided
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import Residual, conv

__all__ = ["PLACES", "SIZE"]

SIZE = (3, 64, 64)


def _scores(given: int) -> nn.Sequential:
    return nn.Sequential(*conv(given, 16), nn.Conv2d(16, 4, 1))


class Enlarged(nn.Module):
    """LEDNet: an attention pyramid makes scores, with a ReLU, that are only enlarged."""

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.down, self.up = conv(32, 4), strided(32, 4), conv(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            gates = F.interpolate(self.up(self.down(x)), scale_factor=2)
            return self.body(x) * gates + F.adaptive_avg_pool2d(self.body(x), 1)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = strided(3, 16), strided(16, 32)
        self.block, self.pyramid = Residual(32), self.Pyramid()
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.pyramid(self.block(self.down(self.stem(x)))))


class Auxiliary(nn.Module):
    """Fast-SCNN: the last output is that of an auxiliary head on an early map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.context = strided(3, 16), strided(16, 32), Residual(32)
        self.low, self.high = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 1)
        self.head, self.aux = _scores(16), _scores(16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        early = self.stem(x)
        late = self.low(F.interpolate(self.context(self.down(early)), scale_factor=2))
        fused = F.relu(self.high(early) + late)
        scores = (self.head(fused), self.aux(early))
        return tuple(F.interpolate(one, scale_factor=2) for one in scores)  # ty: ignore[invalid-return-type]


class Bilateral(nn.Module):
    """BiSeNet: every fused level has a head of its own, whose scores are enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = strided(3, 16), strided(16, 16), strided(16, 16)
        self.fuse2, self.fuse1 = conv(16, 16), conv(16, 16)
        self.head2, self.head1 = _scores(16), _scores(16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.c1(x)
        b = self.c2(a)
        p2 = self.fuse2(b + F.interpolate(self.c3(b), scale_factor=2))
        p1 = self.fuse1(a + F.interpolate(p2, scale_factor=2))
        return (
            F.interpolate(self.head1(p1), scale_factor=2),
            F.interpolate(self.head2(p2), scale_factor=4),
        )


class Indexed(nn.Module):
    """SegNet: pools hand where their maxima were to the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.e1, self.e2, self.bottom = conv(3, 8), conv(8, 16), conv(16, 16)
        self.pool, self.pool2 = (nn.MaxPool2d(2, return_indices=True) for _ in range(2))
        self.unpool2, self.unpool = nn.MaxUnpool2d(2), nn.MaxUnpool2d(2)
        self.d2, self.d1, self.out = conv(16, 8), conv(8, 8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, where = self.pool(self.e1(x))
        b, where2 = self.pool2(self.e2(a))
        y = self.d2(self.unpool2(self.bottom(b), where2))
        return self.out(self.d1(self.unpool(y, where)))


class Parted(nn.Module):
    """ContextNet: a deep branch of the shrunken image, beside a shallow one of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.h1, self.h2 = strided(3, 8), strided(8, 16)
        self.shrink = nn.AvgPool2d(2)
        self.l1, self.l2, self.l3 = strided(3, 16), strided(16, 16), Residual(16)
        self.high, self.low, self.out = (nn.Conv2d(16, made, 1) for made in (16, 16, 4))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.h2(self.h1(x))
        deep = F.interpolate(self.l3(self.l2(self.l1(self.shrink(x)))), scale_factor=2)
        return self.out(F.relu(self.high(fine) + self.low(deep)))


class Faces(nn.Module):
    """LFFD: no neck, and on every level a module that joins its scores."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.faces, self.boxes = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.faces(x), self.boxes(x)], 1)

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1, self.c2, self.b2 = (
            strided(3, 16),
            Residual(16),
            strided(16, 16),
            Residual(16),
        )
        self.h1, self.h2 = self.Head(), self.Head()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.b1(self.c1(x))
        return self.h1(a), self.h2(self.b2(self.c2(a)))


class Centered(nn.Module):
    """MAnet and UPerNet: the decoder begins with a block on the coarsest level."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.center, self.up2, self.up1 = Residual(32), Up(48, 16), Up(24, 8)

        def forward(self, levels: list[Tensor]) -> Tensor:
            first, second, last = levels
            return self.up1(self.up2(self.center(last), second), first)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down1, self.down2 = strided(3, 8), strided(8, 16), strided(16, 32)
        self.block, self.decoder, self.out = Residual(32), self.Decoder(), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.down1(a)
        return self.out(self.decoder([a, b, self.block(self.down2(b))]))


class Coded(nn.Module):
    """A variational autoencoder: the code is returned beside the image that is made from it."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = strided(3, 16), strided(16, 32)
        self.mean, self.spread = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 4, 1)
        up = nn.Upsample(scale_factor=2)
        last = nn.Conv2d(8, 3, 3, padding=1)
        self.decoder = nn.Sequential(
            conv(4, 32), up, conv(32, 16), nn.Upsample(None, 2), conv(16, 8), last
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.down2(self.down1(x))
        mean, spread = self.mean(x), self.spread(x).exp()
        return self.decoder(mean + spread), mean, spread


class Tasks(nn.Module):
    """HoVerNet: a decoder for each task, and blocks whose branches the network itself calls."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(3, 16), nn.Conv2d(16, 32, 3, 2, 1)
        self.before, self.shortcut = conv(16, 16), nn.Conv2d(16, 32, 1, 2)
        self.bottom = conv(32, 32)
        self.decoders = nn.ModuleList(Up(48, 16) for _ in range(2))
        self.heads = nn.ModuleList(nn.Conv2d(16, made, 1) for made in (2, 4))

    def forward(self, x: Tensor) -> list[Tensor]:
        a = self.stem(x)
        b = self.bottom(self.down(self.before(a)) + self.shortcut(a))
        return [head(up(b, a)) for up, head in zip(self.decoders, self.heads, strict=True)]


class Stretched(nn.Module):
    """VGG on images so small that its adaptive pool makes their last map larger."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = strided(3, 8), strided(8, 16), strided(16, 16)
        self.pool, self.head = nn.AdaptiveAvgPool2d(14), nn.Linear(16 * 14 * 14, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.c3(self.c2(self.c1(x)))).flatten(1))


#: Network → the ends of its levels, its decoder's blocks and skips, and what heads are given.
PLACES: dict[type[nn.Module], tuple[str, str, str, str]] = {
    Enlarged: ("stem.2 block", "", "", ""),
    Auxiliary: ("stem.2 context", "<head", "high", ""),
    Bilateral: ("c1.2 c2.2 c3.2", "fuse2 fuse1", "c1 c2", "fuse2 fuse1"),
    Indexed: ("e1.2 e2.2 bottom.2", "d2 d1", "", ""),
    Parted: ("h1.2 l1.2 l3", "<out", "high", ""),
    Faces: ("b1 b2", "", "", ""),
    Centered: ("stem.2 down1.2 block", "decoder.up2 decoder", "stem down1", ""),
    Stretched: ("c1.2 c2.2 c3.2", "", "", ""),
    Coded: ("down1.2 down2.2", "decoder.2 decoder.4", "", ""),
    Tasks: ("stem.2 bottom.2", "decoders.0 decoders.1", "stem", ""),
}
