"""What it takes to build a trained network again: it travels with the weights, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from attnzoo.backbones.head import adapt_input, replace_head
from attnzoo.backbones.loading import channels_option
from attnzoo.backbones.naming import find_backbone

__all__ = ["NetworkRecipe"]


@dataclass(frozen=True)
class NetworkRecipe:
    """How a network was built, and what its scores mean. Weights are not among it.

    Attributes:
        backbone: as in `create_backbone`.
        options: of the function that builds it.
        num_classes: scores that it returns; None is what the function makes of it by itself.
        replaced: whether its head is not the function's own.
        channels: of its images.
        size: side of its images in pixels, as it was trained; None is unknown.
        classes: what the scores are for, in order; empty where that is unknown.
        input: how pictures become images: options of the data.
    """

    backbone: str
    options: Mapping[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    replaced: bool = False
    channels: int = 3
    size: int | None = None
    classes: tuple[str, ...] = ()
    input: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """The network, with fresh weights.

        Raises:
            UnknownNameError: there is no such network here; of a function of yours, its module is
                not found.
            OptionError: it cannot be built so any more.
        """
        named = find_backbone(self.backbone)
        options = dict(self.options)
        if named.library != "own":
            options.pop("pretrained", None)  # other weights come
        own_channels = channels_option(named, self.channels)
        told = {} if self.num_classes is None else {"num_classes": self.num_classes}
        if self.replaced:
            parameter = named.parameters.get("num_classes")
            must = parameter is not None and parameter.default is parameter.empty
            told = told if must else {}
        model = named.build({**own_channels, **told, **options})
        sides = (224, 224) if self.size is None else (self.size, self.size)
        if self.channels != 3 and not own_channels:
            adapt_input(model, self.channels, (3, *sides))
        if self.replaced and self.num_classes is not None:
            replace_head(model, self.num_classes, (self.channels, *sides))
        return model

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "backbone": self.backbone,
            "options": dict(self.options),
            "num_classes": self.num_classes,
            "replaced": self.replaced,
            "channels": self.channels,
            "size": self.size,
            "classes": list(self.classes),
            "input": dict(self.input),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkRecipe:
        """The inverse of `to_dict`."""
        return replace(cls(**data), classes=tuple(data["classes"]))
