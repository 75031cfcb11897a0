"""Building networks: fresh, with trained weights, or without memory for looking at."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from attnzoo.backbones.head import adapt_input
from attnzoo.backbones.loading import TrainedWeights, build_trained, channels_option
from attnzoo.backbones.naming import find_backbone
from attnzoo.backbones.packaged import PACKAGED
from attnzoo.backbones.recipe import NetworkRecipe
from attnzoo.backbones.sources import source_of
from attnzoo.errors import OptionError

__all__ = ["Built", "build_backbone", "create_backbone", "draft_backbone"]

Weights = str | os.PathLike[str] | bool | None


@dataclass(frozen=True)
class Built:
    """A network, and where its weights come from.

    Attributes:
        model: the network.
        trained: its trained weights, or None for fresh ones.
        recipe: builds it again, with other weights.
    """

    model: nn.Module
    trained: TrainedWeights | None
    recipe: NetworkRecipe


def create_backbone(
    name: str, *, weights: Weights = None, channels: int = 3, example: Any = None, **options: Any
) -> nn.Module:
    """Build a network by name, with fresh weights unless trained ones are asked for.

    With trained weights the network is built for the classes that these are for. Where
    `num_classes` asks for another number, the head is then replaced by a fresh one, drawn as
    `nn.Linear` draws. (timm's own `create_model(num_classes=…)` draws the heads of EfficientNets
    and MobileNets so large that the first loss is ten times what it should be.)

    Args:
        name: `"torchvision/vgg16"`, `"timm/resnet50"`, `"pretrained/efficientnet_lite0"`, whose
            weights the extra `weights` brings, or `"package.module:function"` for a function of
            yours, which is imported and called.
        weights: a name that torchvision or timm has for them (`"DEFAULT"`, `"IMAGENET1K_V2"`,
            `"a1_in1k"`), which they may fetch; or a file, safetensors or of `torch.save`, whose
            nesting and prefixes are seen through as by `load_backbone`.
        channels: of the images; the first convolution is adapted as timm does it.
        example: as in `attnzoo.wrap`, of three channels: needed where the head has to be found in
            a network that does not take images of the usual size.
        **options: go to the function that builds the network: `num_classes=10`, …

    Raises:
        UnknownNameError: no such network; the closest names are listed.
        OptionError: the network has no such option or weights, or refuses them.
        CheckpointError: a file cannot be read, or not one of its tensors fits.
        MissingExtraError: the package that holds the weights is not installed.

    Warns:
        UserWarning: some of the network's tensors are not in the file.

    Example:
        >>> from attnzoo.backbones import create_backbone
        >>> model = create_backbone("torchvision/resnet18", num_classes=10)
        >>> model.fc.out_features
        10
    """
    built = build_backbone(name, weights=weights, channels=channels, example=example, **options)
    if built.trained is not None and not built.trained.loading.complete:
        warnings.warn(str(built.trained), stacklevel=2)
    return built.model


def build_backbone(
    name: str, *, weights: Weights = None, channels: int = 3, example: Any = None, **options: Any
) -> Built:
    """As `create_backbone`, together with what there is to say about the weights.

    Example:
        >>> import torch, torchvision
        >>> from attnzoo.backbones import build_backbone
        >>> torch.save({"model": torchvision.models.resnet18().state_dict()}, "trained.pth")
        >>> built = build_backbone("torchvision/resnet18", weights="trained.pth", num_classes=10)
        >>> built.trained.loading.loaded, built.trained.replaced, built.model.fc.out_features
        (122, True, 10)
    """
    named = find_backbone(name)
    source, rest = source_of(named, weights, options)
    num_classes = rest.get("num_classes")
    told = {key: value for key, value in rest.items() if key != "num_classes"}
    recipe = NetworkRecipe(
        name, told, num_classes, channels=channels, size=example[1] if example else None
    )
    if source is not None:
        model, trained = build_trained(named, source, rest, channels, example)
        classes = num_classes or trained.head_classes or None
        # torchvision's GoogLeNet and Inception are built in another way where they are trained.
        told |= {
            key: vars(model)[key] for key in ("aux_logits", "transform_input") if key in vars(model)
        }
        return Built(model, trained, replace(recipe, num_classes=classes, replaced=bool(classes)))
    own_channels = channels_option(named, channels)
    model = named.build({**own_channels, **rest})
    if channels != 3 and not own_channels:
        adapt_input(model, channels, example)
    return Built(model, None, recipe)


def draft_backbone(
    name: str, *, weights: Weights = None, channels: int = 3, example: Any = None, **options: Any
) -> nn.Module:
    """The network that `create_backbone` builds, for looking, planning and counting.

    A library's is built on the meta device where it can be, which takes neither memory nor time,
    and its weights are left out: whether there are such is checked. A function of yours is called
    as ever, because what it imports and remembers must not end up on the meta device.

    Raises:
        UnknownNameError, OptionError, CheckpointError, MissingExtraError: as `create_backbone`.
    """
    named = find_backbone(name)
    source, rest = source_of(named, weights, options)
    if named.library == "own" or (source is not None and source.kind == "file"):
        with torch.random.fork_rng(devices=[]):
            told: dict[str, Any] = {"weights": weights, "channels": channels, "example": example}
            return build_backbone(name, **told, **options).model
    if named.library == "pretrained":
        PACKAGED[named.model].file()
    own_channels = channels_option(named, channels)
    if source is not None and rest.get("num_classes", 0) is None:
        rest.pop("num_classes")
    rest.pop("pretrained_cfg_overlay", None)
    try:
        with torch.device("meta"):
            model = named.build({**own_channels, **rest})
    except OptionError:
        raise
    except Exception:  # it computes with its weights while it is built
        with torch.random.fork_rng(devices=[]):
            model = named.build({**own_channels, **rest})
    if channels != 3 and not own_channels:
        adapt_input(model, channels, example)
    return model
