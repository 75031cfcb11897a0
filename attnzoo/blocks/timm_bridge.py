"""The bridge `timm:NAME`: any attention layer of timm as a block, under timm's name and options.

Source: R. Wightman, PyTorch Image Models (timm), `timm.layers.create_attn`; the layers have papers
of their own. timm is imported when one of them is first asked for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from torch import nn

from attnzoo.blocks.parts import LARGEST
from attnzoo.checks import check_int, check_number
from attnzoo.errors import OptionError, UnknownNameError
from attnzoo.registry import BLOCKS, BlockKind, BlockSpec, Limit

__all__ = ["TIMM_LAYERS", "TIMM_LIMITS"]

#: timm's name → what the layer attends over.
TIMM_LAYERS: dict[str, BlockKind] = {
    "bat": "context",
    "bottleneck": "context",
    "cbam": "both",
    "ceca": "channel",
    "coord": "both",
    "eca": "channel",
    "ecam": "channel",
    "ela": "both",
    "ese": "channel",
    "gc": "context",
    "gca": "context",
    "ge": "both",
    "halo": "context",
    "lambda": "context",
    "lcbam": "both",
    "nl": "context",
    "scoord": "both",
    "se": "channel",
    "sk": "channel",
    "splat": "channel",
    "strip": "both",
}

_ONE_VALUE = (
    "In training it raises on a single value per channel (N = H = W = 1), which has no variance."
)
_HEADS = "C must be a multiple of num_heads."

#: timm's name → what the layer does not keep of the contract of attnzoo's own blocks, and why.
TIMM_LIMITS: dict[str, dict[Limit, str]] = {
    "bat": {
        "shapes": f"H and W must be multiples of block_size. {_ONE_VALUE}",
        "determinism": "It drops channels at random in training, and the backward pass of its "
        "adaptive max pooling is not deterministic on CUDA.",
        "export": "The number of blocks along each side is written into the exported program.",
    },
    "bottleneck": {
        "shapes": f"{_HEADS} Only maps of feat_size=(H, W), which must be given, go through: "
        "blocks at sites of different sizes need `mhsa`.",
        "export": "The size of the map is feat_size.",
    },
    "cbam": {"shapes": _ONE_VALUE},
    "ela": {
        "shapes": "In training it raises where C, and H or W, are 1: GroupNorm has a single value."
    },
    "ge": {"options": "timm 1.0.31 cannot build it with use_mlp=True, its default: pass False."},
    "halo": {
        "shapes": f"{_HEADS} H and W must be multiples of block_size.",
        "export": "The number of blocks along each side is written into the exported program.",
    },
    "lambda": {"shapes": f"{_HEADS} {_ONE_VALUE}"},
    "lcbam": {"shapes": _ONE_VALUE},
    "nl": {"shapes": _ONE_VALUE},
    "sk": {
        "shapes": "C must be a multiple of the number of kernel sizes. In training it raises on a "
        "single image (N = 1), for whose channel means BatchNorm has no variance."
    },
    "splat": {"shapes": "C must be a multiple of radix."},
}

#: Of every layer of timm.
_NO_MAPS = "The layer is taken from timm as it is; attnzoo does not know where its maps come out."

#: Layers whose last normalisation starts at zero. A γ on top of that could never leave the start.
_IDENTITY_AT_INIT = {"nl"}

#: Options that move a tensor elsewhere or change its shape: a block keeps both.
_WITHHELD = {"device", "dtype", "dim_out", "out_channels", "stride"}


def _spec(name: str) -> BlockSpec:
    """The layer that timm calls `name`, as the registry's spec of `timm:name`."""
    import timm
    from timm.layers.create_attn import get_attn

    try:
        layer = get_attn(name)
    except AssertionError as error:
        raise UnknownNameError(
            f"timm {timm.__version__} has no attention layer {name!r}; a newer timm has."
        ) from error
    cls = layer.func if isinstance(layer, functools.partial) else layer
    limits: dict[Limit, str] = {**TIMM_LIMITS.get(name, {}), "maps": _NO_MAPS}
    return BlockSpec(
        name=f"timm:{name}",
        factory=_factory(f"timm:{name}", layer, cls, " ".join(TIMM_LIMITS.get(name, {}).values())),
        kind=TIMM_LAYERS[name],
        title=f"{cls.__name__} of timm",
        paper=f"{cls.__module__}.{cls.__name__}, whose documentation names its source",
        identity_at_init=name in _IDENTITY_AT_INIT,
        limits=MappingProxyType(limits),
    )


def _factory(
    name: str, layer: Callable[..., nn.Module], cls: type[nn.Module], limits: str
) -> Callable[..., nn.Module]:
    options = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(layer).parameters.values())[1:]
        if parameter.name not in _WITHHELD
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    defaults = {parameter.name: parameter.default for parameter in options}

    def build(channels: int, **given: Any) -> nn.Module:
        check_int(name, "channels", channels, minimum=1)
        for option, value in given.items():
            _check_kind(name, option, value, defaults.get(option))
        try:
            return layer(channels, **given)
        except Exception as error:
            asked = "".join(f", {option}={value!r}" for option, value in given.items())
            raise OptionError(
                f"{name}: {cls.__name__}({channels}{asked}) of timm fails with "
                f"{type(error).__name__}: {error or 'no message'}.{limits and ' ' + limits}"
            ) from error

    channels = inspect.Parameter("channels", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([channels, *options])
    build.__signature__ = signature  # ty: ignore[missing-attribute]
    build.__doc__ = f"{cls.__module__}.{cls.__name__}, with its options."
    return build


def _check_kind(owner: str, option: str, value: object, default: object) -> None:
    """Numbers and switches must be such: timm reads any text as a switch that is on."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise OptionError(f"{owner}: {option}={value!r} must be True or False.")
    elif isinstance(default, int) and isinstance(value, int):
        check_int(owner, option, value, maximum=LARGEST)
    elif isinstance(default, int | float):
        check_number(owner, option, value)
    else:
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, int):
                check_int(owner, option, part, maximum=LARGEST)


BLOCKS.add_family("timm", TIMM_LAYERS, _spec)
