"""The modules that surgery puts in: a block at its site, and the ways a host runs with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.hosts.source import REBUILDING

__all__ = [
    "Attended",
    "Attention",
    "Replaced",
    "Start",
]

Start = Literal["identity", "neutral", "paper"]


class Attention(nn.Module):
    """A block at its place in a network.

    With a γ (`start="identity"`): `y = x + γ·(block(x) − x)`, γ per channel and zero at first, so
    that the network computes bit for bit what it did; without one: `y = block(x)`.

    A block that is x times its gates is given γ and softens them. Where it has fused kernels and
    they can run, γ is part of them, and so is `pool`: the pool behind this place, which
    `attnzoo.fuse` moves here.

    Args:
        block: maps `(N, C, H, W)` to the same shape.
        name: the block's registered name.
        channels: C.
        gamma: whether to start from the identity by a γ.
        axes: `"NCHW"`, `"NHWC"` where the network holds its maps channels last, or `"NCDHW"` where
            it holds those of D frames together; the block sees each frame by itself.
        step: which `wrap` put it in, counted within the model that was wrapped.
        insertion: the name that `wrap` gave to what it put in.
        device: of γ.
    """

    is_attnzoo_attention = True
    if TYPE_CHECKING:
        gamma: nn.Parameter | None
        pool: nn.Module | None

    def __init__(
        self,
        block: nn.Module,
        name: str,
        channels: int,
        *,
        gamma: bool = True,
        axes: str = "NCHW",
        step: int = 1,
        insertion: str = "attention",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.block = block
        self.name = name
        self.channels = channels
        self.axes = axes
        self.step = step
        self.insertion = insertion
        self.enabled = True
        self.start: Start = "identity" if gamma else "paper"
        self.register_parameter(
            "gamma", nn.Parameter(torch.zeros(channels, device=device)) if gamma else None
        )
        self.register_module("pool", None)

    def forward(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """The attended map; `base` is what γ = 0 gives, x itself unless a module was replaced."""
        if not self.enabled:
            y = x if base is None else base
            return y if self.pool is None else self.pool(y)
        if not torch.jit.is_scripting() and base is None:
            fused = self._fused(x)
            if fused is not None:
                return fused
        y = self._attended(x, base)
        return y if self.pool is None else self.pool(y)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"insertion": "attention", "enabled": True, **state})

    def _fused(self, x: Tensor) -> Tensor | None:
        """The result from the block's fused kernels, or None where they can't run."""
        if not kernels.takes(x):
            return None
        fused = getattr(self.block, "fused", None)
        if fused is None:
            return None
        if self.axes == "NHWC":
            y = fused(self._images(x), self.gamma)
            return None if y is None else self._back(y, x)
        return fused(x, self.gamma, self.pool)

    def _attended(self, x: Tensor, base: Tensor | None) -> Tensor:
        images = self._images(x)
        if self.gamma is None:
            y = self.block(images)
            if not hasattr(self.block, "gates"):  # whose own product is laid out as the map is
                y = kernels.laid_as(y, images)
            return self._back(y, x)
        if hasattr(self.block, "gates") and base is None:  # it takes γ itself
            return self._back(self.block(images, self.gamma), x)
        bases = images if base is None else self._images(base)
        y = kernels.softened(bases, self.block(images), self.gamma.view(1, -1, 1, 1))
        return self._back(y, x)

    def _images(self, x: Tensor) -> Tensor:
        """The map as (N, C, H, W), every frame of a video by itself."""
        if self.axes == "NHWC":
            return x.permute(0, 3, 1, 2)
        if self.axes == "NCDHW":
            return x.transpose(1, 2).flatten(0, 1)
        return x

    def _back(self, y: Tensor, x: Tensor) -> Tensor:
        """Images with the axes of x, which was made into them."""
        if self.axes == "NHWC":
            return y.permute(0, 2, 3, 1)
        if self.axes == "NCDHW":
            # Dense again: what comes behind may look at x through a view.
            return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2).contiguous()
        return y

    def extra_repr(self) -> str:
        return f"{self.name!r}, {self.channels}, start={self.start!r}"


#: What a norm is folded into a convolution by.
_STATISTICS = ("running_mean", "running_var")

#: timm's way to run a block that hands out a map from inside, too, behind what `forward` returns.
_TAP = "forward_with_tap"


class Attended(nn.Module):
    """A layer with attention on what it is given or returns, standing in the layer's place.

    The layer's keys become `host.…`; the plain ones load all the same. What else is asked of it,
    weights, channels, or what a framework has put on its layers, the layer answers, and what is set
    of that is set on the layer. Only its statistics it keeps to itself: who reads them is about to
    fold the norm into a convolution, and the attention would be lost without a word. So it does
    other ways to run the layer, which would pass the attention by, but for `forward_with_tap`,
    which is run with it, and the methods by which a layer makes another of itself: that comes to
    stand here, in the host's place.
    """

    def __init__(self, host: nn.Module, attention: Attention, where: str) -> None:
        super().__init__()
        self.where = where  # before the host is there, which may have one itself
        self.host = host
        self.attention = attention
        # Such as Ultralytics' `type`, which else would be torch's method of that name.
        hidden = {name: value for name, value in vars(host).items() if hasattr(nn.Module, name)}
        vars(self).update((k, v) for k, v in hidden.items() if k != "training" and not callable(v))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            host = vars(self).get("_modules", {}).get("host")
            if host is None or name.startswith("__"):
                raise
        if name in REBUILDING:  # who looks for it is to find the host, and put another in its place
            raise AttributeError(f"Attended: ask the layer itself, in `host`, for {name!r}")
        if name in _STATISTICS and hasattr(host, name):
            raise AttributeError(
                f"{type(host).__name__} has attention behind it, which is lost where the norm is "
                f"folded into a convolution. Take the attention out first, attnzoo.unwrap(model), "
                f"or put it after the activation."
            )
        found = getattr(host, name)
        if name == _TAP and callable(found):
            return partial(self._tapped, found)
        if name.startswith(("forward_", "prune_")) and callable(found):
            raise AttributeError(
                f"{type(host).__name__} has attention around it, which {name!r} would pass by. Run "
                f"the network by its forward(); timm's features_only=True has its maps. What is to "
                f"be pruned is pruned before attention comes."
            )
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        host = vars(self).get("_modules", {}).get("host")
        theirs = host is not None and name not in vars(self) and name not in self._modules
        if theirs and not hasattr(nn.Module, name) and _holds(host, name):
            setattr(host, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.where == "before":
            return self.host(self.attention(x), *args, **kwargs)
        return self.attention(self.host(x, *args, **kwargs))

    def _tapped(self, run: Callable[..., Any], x: Tensor) -> tuple[Tensor, Tensor]:
        if self.where == "before":
            return run(self.attention(x))
        y, tap = run(x)
        return self.attention(y), tap

    def _load_from_state_dict(  # ty: ignore[incompatible-method-override]  # a private method
        self, state_dict: Any, prefix: str, *args: Any
    ) -> None:
        accept_plain_keys(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _holds(module: nn.Module, name: str) -> bool:
    """Whether something of that name was set on a module."""
    return any(name in held for held in (vars(module), module._parameters, module._buffers))


class Replaced(nn.Module):
    """A block in the place of a module.

    With a γ the module keeps running and γ fades from it to the block: `y = m − γ·(m − block)`
    with m the module's own output. Without one the module is put aside: it does not run, has no
    part in `parameters()` or the state dict, follows `.to()` and `.train()`, and comes back by
    `unwrap`.
    """

    def __init__(self, host: nn.Module, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        if attention.gamma is None:
            self.__dict__["aside"] = host
        else:
            self.host = host

    @property
    def original(self) -> nn.Module:
        """The module that was here."""
        return self.host if "host" in self._modules else self.__dict__["aside"]

    def forward(self, x: Tensor) -> Tensor:
        if self.attention.gamma is None:
            if not torch.jit.is_scripting() and not self.attention.enabled:
                return self.original(x)
            return self.attention(x)
        return self.attention(x, self.host(x))

    def train(self, mode: bool = True) -> Replaced:
        if "aside" in self.__dict__:
            self.__dict__["aside"].train(mode)
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Replaced:
        if "aside" in self.__dict__:
            self.__dict__["aside"]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(  # ty: ignore[incompatible-method-override]  # a private method
        self, state_dict: Any, prefix: str, *args: Any
    ) -> None:
        if "host" in self._modules:
            accept_plain_keys(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def accept_plain_keys(wrapper: nn.Module, state_dict: dict[str, Any], prefix: str) -> None:
    """Rename the plain keys of a wrapper's host: `<prefix>weight` to `<prefix>host.weight`."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key[len(prefix) :]
        if name.partition(".")[0] not in wrapper._modules:
            state_dict[f"{prefix}host.{name}"] = state_dict.pop(key)
