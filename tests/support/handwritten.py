"""Networks as people write them by hand, shortened, and the places that a policy finds in one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import conv

import attnzoo
from attnzoo.errors import NoSitesError


class OnePool(nn.Module):
    """One pool for all levels, `relu` as a function: PyTorch's first tutorial on images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool, self.fc = nn.MaxPool2d(2, 2), nn.Linear(16 * 5 * 5, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.fc(torch.flatten(x, 1))


class OneOfEach(OnePool):
    """The same with one ReLU module for all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc(torch.flatten(x, 1))


class Functions(nn.Module):
    """Pools and activations as functions, a dropout between: the usual network for MNIST."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 10, 5), nn.Conv2d(10, 20, 5)
        self.drop, self.fc = nn.Dropout2d(), nn.Linear(20 * 5 * 5, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.max_pool2d(F.relu(self.drop(self.conv2(x))), 2)
        return F.log_softmax(self.fc(x.flatten(1)), dim=1)


class PoolsFirst(nn.Module):
    """A block that first pools what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.max_pool2d(x, 2))


class Written(nn.Module):
    """Shortcuts written out in the forward pass of the network, as in a “ResNet-9”."""

    def __init__(self) -> None:
        super().__init__()
        self.prep, self.layer1 = conv(3, 8), conv(8, 16, pool=True)
        self.res1 = nn.Sequential(conv(16, 16), conv(16, 16))
        self.layer2 = conv(16, 32, pool=True)
        self.res2 = nn.Sequential(conv(32, 32), conv(32, 32))
        self.head = nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 2 * 2, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.prep(x))
        x = self.res1(x) + x
        x = self.layer2(x)
        x = F.relu(self.res2(x) + x)
        return self.head(x)


class Stage(nn.Module):
    """A module that runs several blocks and adds their shortcuts, the last one projected."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
            for _ in range(3)
        )
        self.project, self.act = nn.Conv2d(8, 8, 1), nn.ReLU()
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks[:2]:
            x = x + block(x)
        x = self.act(self.blocks[2](x) + self.project(x))
        return self.out(x)


class Dense(nn.Module):
    """A DenseNet that joins each new feature with all before it; its pools are functions."""

    class Layer(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(given), nn.Conv2d(given, 6, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.conv(F.relu(self.norm(x))), x], 1)

    class Transition(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(given), nn.Conv2d(given, given // 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)

    def __init__(self) -> None:
        super().__init__()
        self.stem, channels = nn.Conv2d(3, 12, 3, padding=1), 12
        for number in (1, 2, 3):
            layers = [self.Layer(channels + 6 * i) for i in range(4)]
            setattr(self, f"dense{number}", nn.Sequential(*layers))
            channels += 24
            if number < 3:
                setattr(self, f"trans{number}", self.Transition(channels))
                channels //= 2
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.dense1(self.stem(x)))
        x = self.dense3(self.trans2(self.dense2(x)))
        return self.fc(F.avg_pool2d(F.relu(x), 8).flatten(1))


class Inceptive(nn.Module):
    """Concatenations within concatenations that are no dense block."""

    class Block(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(given, 8, 1), nn.Conv2d(given, 8, 1)
            self.wide, self.high = nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 8, (3, 1))

        def forward(self, x: Tensor) -> Tensor:
            y = self.two(x)
            split = [self.wide(F.pad(y, (1, 1))), self.high(F.pad(y, (0, 0, 1, 1)))]
            return torch.cat([self.one(x), torch.cat(split, 1)], 1)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.narrow = conv(3, 8), self.Block(8), nn.Conv2d(24, 8, 1)
        self.pool, self.second = nn.MaxPool2d(2), self.Block(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.pool(self.narrow(self.first(self.stem(x))))).mean((2, 3))


class UNet(nn.Module):
    """Pools as functions, on maps that a skip connection reads as well."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv(3, 8), conv(8, 16), conv(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join2, self.join1, self.out = conv(32, 16), conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        y = self.bottom(F.max_pool2d(b, 2))
        y = self.join2(torch.cat([self.up2(y), b], 1))
        return self.out(self.join1(torch.cat([self.up1(y), a], 1)))


class LinkNet(nn.Module):
    """A decoder whose skip connections are sums, which are no residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8, pool=True), conv(8, 16, pool=True), conv(16, 32)
        self.squeeze = nn.Conv2d(32, 16, 1)
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        y = self.squeeze(self.c(b)) + b
        return self.out(self.up(y) + a)


class Denoiser(nn.Module):
    """Subtracts the noise that it finds: what its last convolution makes is an image."""

    def __init__(self) -> None:
        super().__init__()
        last = nn.Conv2d(8, 3, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), conv(8, 8), last)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.body(x)


class Restorer(Denoiser):
    """Adds what is missing in the image, which is no shortcut around a block."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SuperResolution(nn.Module):
    """Residual blocks that scale their branch, within a long shortcut around them all."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(True), nn.Conv2d(8, 8, 3, padding=1)
            self.body = nn.Sequential(*layers)

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x).mul(0.1)
            y += x
            return y

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(self.Block(), self.Block(), nn.Conv2d(8, 8, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        y = self.body(x)
        y += x
        return self.tail(y)


class Discriminator(nn.Module):
    """Strides instead of pools; its last convolution gives scores."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(8, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(16, 1, 4), nn.Sigmoid()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


SIZE = (3, 32, 32)


def places(model: nn.Module, policy: str) -> str:
    try:
        sites = attnzoo.plan(model, policy, example=SIZE).sites
    except NoSitesError:
        return ""
    return ", ".join(f"{site.where} {site.path}" for site in sites)
