"""The published network, VGG16WithAttention, and the loader of its checkpoints.

Source: the article "VGG16 with attention" that attnzoo began from; VGG16 itself is K. Simonyan,
A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
arXiv 1409.1556, in torchvision's layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from attnzoo.blocks import LocalAttention
from attnzoo.checks import check_int
from attnzoo.errors import CheckpointError

__all__ = ["VGG16WithAttention", "load_published", "vgg16_with_attention"]

Model = TypeVar("Model", bound=nn.Module)

# Convolutions (by output channels) between one max pool and the next.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16WithAttention(nn.Module):
    """VGG16 with a LocalAttention before each of its five max pools, as published.

    x (N, 3, H, W), H and W at least 32 → logits (N, num_classes).

    Every layer of `features` has its running index, attention included: the blocks are
    `features.4`, `10`, `18`, `26` and `34`. VGG16 is 138,357,544 parameters and 15.470 GMACs at
    224×224; with the five blocks it is 138,588,437 (+0.17 %) and 15.580 (+0.71 %). The article
    says "about 15–20 % more compute", which MACs do not show.

    The backbone is initialised as torchvision's VGG is, the blocks as `LocalAttention` says.

    Args:
        num_classes: width of the last layer, at least 1.

    Raises:
        OptionError: if `num_classes` is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.reference import VGG16WithAttention
        >>> with torch.device("meta"):
        ...     VGG16WithAttention(num_classes=10)(torch.empty(2, 3, 224, 224)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        check_int("VGG16WithAttention", "num_classes", num_classes, minimum=1)
        layers: list[nn.Module] = []
        channels = 3
        for widths in _STAGES:
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers += [LocalAttention(channels), nn.MaxPool2d(2, 2)]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )
        for layer in [*self.features, *self.classifier]:  # the blocks have initialised themselves
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


def vgg16_with_attention(num_classes: int = 1000) -> VGG16WithAttention:
    """Build the published network; see `VGG16WithAttention`.

    Example:
        >>> import torch
        >>> from attnzoo.reference import vgg16_with_attention
        >>> with torch.device("meta"):
        ...     sum(p.numel() for p in vgg16_with_attention().parameters())
        138588437
    """
    return VGG16WithAttention(num_classes)


def load_published(model: Model, state_dict: Mapping[str, Tensor]) -> Model:
    """Load a checkpoint in the published layout (`features.<running index>.…`) into `model`.

    `model` is a `VGG16WithAttention`, or a torchvision VGG16 rewritten by
    `attnzoo.wrap(vgg16(), policy="pre-pool", block="local", start="paper")`: the entries of its
    `features` are the published ones in the same order, under other names.

    Returns:
        `model`, changed in place.

    Raises:
        CheckpointError: if keys are missing or unexpected, or a shape differs; the message names
            them all and the model is as it was.

    Example:
        >>> import torch
        >>> from attnzoo.reference import load_published, vgg16_with_attention
        >>> published = vgg16_with_attention(num_classes=2).state_dict()
        >>> model = load_published(vgg16_with_attention(num_classes=2), published)
        >>> torch.equal(model.features[4].channel_attention[1].weight,
        ...             published["features.4.channel_attention.1.weight"])
        True
    """
    tensors = model.state_dict()
    layout = _published_layout(model, tensors)
    missing = [key for key in layout if key not in state_dict]
    unexpected = [str(key) for key in state_dict if key not in layout]
    faults = [f"missing: {', '.join(missing)}"] if missing else []
    faults += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
    for key, own_key in layout.items():
        if key in state_dict:
            faults += _unfit(key, state_dict[key], tensors[own_key])
    if faults:
        raise CheckpointError(
            "These weights are not the published VGG16WithAttention's for this model; nothing was "
            f"loaded. {'; '.join(faults)}. The model must be vgg16_with_attention(), or VGG16 "
            "wrapped with policy='pre-pool', block='local', start='paper' and its default options."
        )
    model.load_state_dict({own_key: state_dict[key] for key, own_key in layout.items()})
    return model


def _published_layout(model: nn.Module, own_keys: Iterable[str]) -> dict[str, str]:
    """Published key → the model's own key, in the model's order.

    What the published network has no place for keeps its own key (and will be found missing).
    """
    features = getattr(model, "features", None)
    if not isinstance(features, nn.Sequential):
        raise CheckpointError(
            f"{type(model).__name__} has no nn.Sequential `features`, so it is not a VGG16."
        )
    index_of = {name: index for index, name in enumerate(features._modules)}
    layout = {}
    for own_key in own_keys:
        published = own_key
        head, _, rest = own_key.partition(".")
        if head == "features":
            name, _, tensor = rest.partition(".")
            if isinstance(getattr(features[index_of[name]], "block", None), LocalAttention):
                tensor = tensor.removeprefix("block.")  # the block sits inside what wrap inserted
            published = f"features.{index_of[name]}.{tensor}"
        layout[published] = own_key
    return layout


def _unfit(key: str, value: object, own: Tensor) -> list[str]:
    """What keeps `value` from being copied into the model's tensor `own`."""
    if not isinstance(value, Tensor):
        return [f"{key} is a {type(value).__name__}, not a tensor"]
    if value.shape != own.shape:
        return [f"{key} has shape {tuple(value.shape)}, but {tuple(own.shape)} in the model"]
    if own.is_meta or value.is_meta:  # a copy from or to meta does nothing, or fails midway
        return [f"{key} is on the meta device"]
    return []
