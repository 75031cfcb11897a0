"""What the registry knows about a block, and about a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from attnzoo.checks import check_int, check_keywords, check_writable, keyword_options

__all__ = ["BlockKind", "BlockSpec", "Limit", "MapKind", "PolicySpec", "Tool"]

BlockKind = Literal["channel", "spatial", "both", "context", "control"]
MapKind = Literal["channel", "spatial", "both", "pairwise"]
Promise = Literal[
    "shapes", "options", "determinism", "compile", "export", "onnx", "maps", "neutral"
]
Tool = Literal["onnx-legacy", "openvino", "executorch", "litert", "coreml", "ncnn", "opencv"]
Limit = Literal[Promise, Tool]


@dataclass(frozen=True)
class BlockSpec:
    """What the registry knows about one attention block.

    Attributes:
        name: the registered name.
        factory: called as `factory(channels, **options)`; returns a module that maps
            `(N, C, H, W)` to the same shape.
        kind: what the block attends over; `control` for blocks without attention.
        title: the name the paper uses.
        paper: authors and title.
        year: year of publication.
        arxiv: arXiv identifier, or None.
        maps: submodule path → kind of the attention map which that submodule outputs.
        identity_at_init: whether the freshly built block returns its input unchanged. Such a
            block needs no γ to start from the identity (and with one could never leave it),
            except in the place of a module.
        neutral: whether the block can start as the identity without γ, by gates that are exactly 1
            at first (`start="neutral"`): it has a method `start_neutral`, or is the identity as it
            is built.
        limits: what the block does not keep of that which blocks promise (any shape, working
            options, identical gradients in every run, torch.compile, torch.export, ONNX, a
            submodule that returns the attention map, a neutral start, the formats of
            `attnzoo.export`) → why, in a sentence or two; of a format, with its tool's version.
        former: option → what was built before there was this option, or this default. A recipe
            from that time, which does not name it, means that.
        limited_with: limit → options that show it, for limits that the default options do not
            have.
    """

    name: str
    factory: Callable[..., nn.Module]
    kind: BlockKind
    title: str = ""
    paper: str = ""
    year: int | None = None
    arxiv: str | None = None
    maps: Mapping[str, MapKind] = field(default_factory=lambda: MappingProxyType({}))
    identity_at_init: bool = False
    neutral: bool = False
    limits: Mapping[Limit, str] = field(default_factory=lambda: MappingProxyType({}))
    former: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    limited_with: Mapping[Limit, Mapping[str, Any]] = field(
        default_factory=lambda: MappingProxyType({})
    )

    @property
    def options(self) -> dict[str, Any]:
        """Option → default value (`inspect.Parameter.empty` where it must be given)."""
        return self._options.copy()

    @cached_property
    def _options(self) -> dict[str, Any]:
        return keyword_options(self.factory)

    @property
    def summary(self) -> str:
        """First line of the factory's docstring."""
        return (self.factory.__doc__ or "").strip().partition("\n")[0]

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `OptionError` for an option this block does not have, or that cannot be shown."""
        check_keywords(f"block {self.name!r}", options, self.options)
        check_writable(f"block {self.name!r}", options)

    def build(self, channels: int, **options: Any) -> nn.Module:
        """Build the block for maps of `channels` channels."""
        check_int(f"block {self.name!r}", "channels", channels, minimum=1)
        self.check_options(options)
        return self.factory(channels, **options)


@dataclass(frozen=True)
class PolicySpec:
    """What the registry knows about one insertion policy.

    Attributes:
        name: the registered name.
        find: pure function `find(trace, **options)` → the sites it names, in forward order.
        source: the network or paper the policy comes from.
        looks_for: what it looks for, in the plural, for the message when there is none.
        delegate: for a policy that only chooses another one: `delegate(trace)` → its name.
    """

    name: str
    find: Callable[..., Any]
    source: str = ""
    looks_for: str = "places of this kind"
    delegate: Callable[[Any], str] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Option → default value, without the filters that every policy has."""
        return keyword_options(self.find)

    @property
    def summary(self) -> str:
        """First line of the policy's docstring."""
        return (self.find.__doc__ or "").strip().partition("\n")[0]
