"""The bridge `timm:NAME`: any attention layer of timm as a block, under timm's name and options.

Source: R. Wightman, PyTorch Image Models (timm), `timm.layers.create_attn`; the layers have papers
of their own. timm is imported when one of them is first asked for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from attnzoo.checks import check_int, check_number
from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS, BlockKind, BlockSpec

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
    "In training it raises on a single value (N = H = W = 1), for which BatchNorm has no variance."
)

#: timm's name → why the layer does not keep the contract of attnzoo's own blocks.
TIMM_LIMITS: dict[str, str] = {
    "bat": "H and W must be multiples of block_size. It drops channels at random in training, and "
    "the backward pass of its adaptive max pooling is not deterministic on CUDA.",
    "bottleneck": "feat_size=(H, W) must be given, and only maps of that size go through; C must "
    "be a multiple of num_heads. Blocks at sites of different sizes need `mhsa`.",
    "cbam": _ONE_VALUE,
    "ela": "It raises where C, and H or W, are 1: GroupNorm has a single value there.",
    "ge": "timm 1.0.31 cannot build it with use_mlp=True, its default: pass use_mlp=False.",
    "halo": "H and W must be multiples of block_size, C one of num_heads.",
    "lambda": f"C must be a multiple of num_heads. {_ONE_VALUE}",
    "lcbam": _ONE_VALUE,
    "nl": _ONE_VALUE,
    "sk": "C must be a multiple of the number of kernel sizes. In training it raises on a single "
    "image (N = 1), for whose channel means BatchNorm has no variance.",
    "splat": "C must be a multiple of radix.",
}

#: Layers whose last normalisation starts at zero. A γ on top of that could never leave the start.
_IDENTITY_AT_INIT = {"nl"}

#: Options that move a tensor elsewhere or change its shape: a block keeps both.
_WITHHELD = {"device", "dtype", "dim_out", "out_channels", "stride"}


def _spec(name: str) -> BlockSpec:
    """The layer that timm calls `name`, as the registry's spec of `timm:name`."""
    from timm.layers.create_attn import get_attn

    layer = get_attn(name)
    cls = layer.func if isinstance(layer, functools.partial) else layer
    return BlockSpec(
        name=f"timm:{name}",
        factory=_factory(f"timm:{name}", layer, cls, TIMM_LIMITS.get(name, "")),
        kind=TIMM_LAYERS[name],
        title=f"{cls.__name__} of timm",
        paper=f"timm.layers.{cls.__name__}, whose documentation names its source",
        identity_at_init=name in _IDENTITY_AT_INIT,
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
    build.__signature__ = inspect.Signature([channels, *options])  # type: ignore[attr-defined]
    build.__doc__ = f"timm.layers.{cls.__name__}, with its options.\n\n{limits}".strip()
    return build


def _check_kind(owner: str, option: str, value: object, default: object) -> None:
    """Numbers and switches must be such: timm reads any text as a switch that is on."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise OptionError(f"{owner}: {option}={value!r} must be True or False.")
    elif isinstance(default, int) and isinstance(value, int):
        check_int(owner, option, value)
    elif isinstance(default, int | float):
        check_number(owner, option, value)


BLOCKS.add_family("timm", TIMM_LAYERS, _spec)
