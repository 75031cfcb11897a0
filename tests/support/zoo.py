"""Networks small enough for tests, and what the tests compare before and after surgery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "BACKBONES",
    "EVERY_MECHANISM",
    "SIZE",
    "AllMechanisms",
    "Branches",
    "Concat",
    "Gate",
    "HandIterated",
    "PlainVGG",
    "Residual",
    "TupleOutput",
    "bits",
    "conv",
    "example",
    "outputs",
    "same_bits",
    "snapshot",
]

#: Of the images that `BACKBONES` and most tests take.
SIZE = (3, 64, 64)


def conv(given: int, made: int, *, pool: bool = False) -> nn.Sequential:
    """A convolution, normalised, with its activation, and perhaps a pool."""
    layers = [nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *[nn.MaxPool2d(2)] * pool)


class PlainVGG(nn.Module):
    """VGG in small: two pools in a Sequential that the model calls as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Residual(nn.Module):
    """A residual block whose addition is in its own forward."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Concat(nn.Module):
    """A block that appends `growth` channels to its input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.relu(self.conv(x))], 1)


class Gate(nn.Module):
    """Spatial attention in small: the map times the sigmoid of its mean over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squash = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.squash(x.mean(1, keepdim=True))


class Branches(nn.Module):
    """Returns a tuple: the feature map and its mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.relu(self.conv(x))
        return y, y.mean((2, 3))


class TupleOutput(nn.Module):
    """Calls a module that returns a tuple, and goes on with its first item."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = Branches(channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y, mean = self.branches(x)
        return self.norm(y) * mean[:, :, None, None].sigmoid()


class HandIterated(nn.Module):
    """Runs the entries of a Sequential one by one, by position, and keeps some of the results."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            Residual(channels),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, channels, 1),
        )
        self.keep = (2, 4)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for position, layer in enumerate(self.model):
            x = layer(x)
            if position in self.keep:
                kept.append(x)
        return torch.cat([F.adaptive_avg_pool2d(item, 1) for item in kept], 1)


class AllMechanisms(nn.Module):
    """A network in which every way of attaching a block has its place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2)
        self.slotted = torchvision.models.resnet.BasicBlock(8, 8)
        self.timm_slotted = timm.models.resnet.BasicBlock(8, 8)
        self.residual = Residual(8)
        self.excite = timm.layers.SEModule(8, rd_channels=4)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.stem(x)))
        x = F.relu(self.timm_slotted(F.relu(self.slotted(x))))
        x = F.relu(self.norm(self.excite(F.relu(self.residual(x))))) + 1
        return self.head(x.mean((2, 3)))


#: Policies that find a place in it for every way of attaching a block.
EVERY_MECHANISM = [
    ("match", {"pattern": "stem.0"}),
    ("match", {"pattern": "pool", "where": "before"}),
    ("in-residual", {"include": "*slotted.*"}),
    ("match", {"pattern": "residual"}),
    ("match", {"pattern": "residual", "where": "before"}),
    ("match", {"pattern": "excite", "where": "replace"}),
    ("match", {"pattern": "norm"}),
]


def _vgg11() -> nn.Module:
    # its own classifier of 120 million parameters takes longer to fill than all the tests here
    with torch.device("meta"):
        model = torchvision.models.vgg11(init_weights=False)
        model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 10))
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.03)
    return model


#: name → factory of an untrained network that takes 3×64×64 images.
BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "plain": PlainVGG,
    "vgg11": _vgg11,
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10),
    "densenet121": lambda: torchvision.models.densenet121(num_classes=10),
    "efficientnet_b0": lambda: torchvision.models.efficientnet_b0(num_classes=10),
    "googlenet": lambda: torchvision.models.googlenet(
        num_classes=10, init_weights=False, aux_logits=False
    ),
    "timm/resnet18": lambda: timm.create_model("resnet18", num_classes=10),
    "timm/resnet26d": lambda: timm.create_model("resnet26d", num_classes=10),
    "timm/densenet121": lambda: timm.create_model("densenet121", num_classes=10),
    "timm/efficientnet_b0": lambda: timm.create_model("efficientnet_b0", num_classes=10),
    "timm/mobilenetv3_small_050": lambda: timm.create_model(
        "mobilenetv3_small_050", num_classes=10
    ),
    "timm/convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=10),
    "timm/regnetx_002": lambda: timm.create_model("regnetx_002", num_classes=10),
    "timm/mambaout_femto": lambda: timm.create_model("mambaout_femto", num_classes=10),
}


def example(batch: int = 2, size: tuple[int, int, int] = SIZE) -> Tensor:
    """A batch of images, always the same ones."""
    return torch.randn((batch, *size), generator=torch.Generator().manual_seed(7))


def outputs(model: nn.Module, x: Tensor | None = None) -> Tensor:
    """What the model returns in eval mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    with torch.no_grad():
        result = model(example() if x is None else x)
    for module in training:
        module.training = True
    return result


def bits(tensor: Tensor) -> Tensor:
    """The bit patterns of a floating-point tensor: −0 differs from 0, NaN equals itself."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(integers[tensor.element_size()])


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit."""
    return one.dtype == other.dtype and torch.equal(bits(one), bits(other))


def snapshot(model: nn.Module) -> list[tuple[Any, ...]]:
    """All that surgery could disturb, module by module, in registration order.

    Paths, identity and class of every module; its mode, its attributes by identity; its children,
    parameters, buffers and hooks in order; of each tensor its identity, version and flags.
    """
    seen: list[tuple[Any, ...]] = []

    def tensor(item: Tensor | None) -> tuple[Any, ...] | None:
        if item is None:
            return None
        return id(item), item._version, item.requires_grad, item.dtype, item.device, item.stride()

    def visit(path: str, module: nn.Module) -> None:
        attributes = {}
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers"):
                attributes[name] = tuple((key, tensor(item)) for key, item in value.items())
            elif isinstance(value, dict | list):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                attributes[name] = tuple((key, id(item)) for key, item in items)
            elif isinstance(value, set):
                attributes[name] = frozenset(value)
            else:
                attributes[name] = id(value)
        seen.append((path, id(module), type(module), module.training, attributes))
        for name, child in module._modules.items():
            if child is not None:
                visit(f"{path}.{name}", child)

    visit("", model)
    return seen
