"""The two registries, of blocks and of policies, and what puts into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from torch import nn

from attnzoo.checks import check_choice
from attnzoo.registry.names import Registry
from attnzoo.registry.specs import BlockKind, BlockSpec, Limit, MapKind, PolicySpec

__all__ = [
    "BLOCKS",
    "POLICIES",
    "create_block",
    "list_blocks",
    "list_policies",
    "register_block",
    "register_policy",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

BLOCKS: Registry[BlockSpec] = Registry("block", "attnzoo.blocks", lambda name: register_block(name))
POLICIES: Registry[PolicySpec] = Registry(
    "policy", "attnzoo.policies", lambda name: register_policy(name)
)


def register_block(
    name: str,
    *,
    kind: BlockKind = "both",
    title: str = "",
    paper: str = "",
    year: int | None = None,
    arxiv: str | None = None,
    maps: Mapping[str, MapKind] | None = None,
    identity_at_init: bool = False,
    neutral: bool = False,
    limits: Mapping[Limit, str] | None = None,
    former: Mapping[str, Any] | None = None,
    limited_with: Mapping[Limit, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> Callable[[Decorated], Decorated]:
    """Register an `nn.Module` class (or function) as the block `name`.

    It is called as `factory(channels, **options)` and must return a module that maps
    `(N, C, H, W)` to the same shape. See `BlockSpec` for the other arguments.

    Raises:
        OptionError: if the name is taken (and `overwrite` is false), or a kind or a limit is
            unknown, or `limited_with` has a limit that `limits` has not.

    Example:
        >>> import torch, attnzoo
        >>> @attnzoo.register_block("mean-gate", kind="channel")
        ... class MeanGate(torch.nn.Module):
        ...     def __init__(self, channels, sharpness=1.0):
        ...         super().__init__()
        ...         self.sharpness = sharpness
        ...     def forward(self, x):
        ...         return x * torch.sigmoid(self.sharpness * x.mean((2, 3), keepdim=True))
        >>> attnzoo.create_block("mean-gate", 8, sharpness=2.0)(torch.ones(1, 8, 4, 4)).shape
        torch.Size([1, 8, 4, 4])
    """
    owner = f"register_block({name!r})"
    check_choice(owner, "kind", kind, get_args(BlockKind))
    for emitter, map_kind in (maps or {}).items():
        check_choice(owner, f"maps[{emitter!r}]", map_kind, get_args(MapKind))
    for limit in limits or {}:
        check_choice(owner, "limits", limit, get_args(Limit))
    for limit in limited_with or {}:
        check_choice(owner, "limited_with", limit, limits or {})

    def decorate(factory: Decorated) -> Decorated:
        spec = BlockSpec(
            name=name,
            factory=factory,
            kind=kind,
            title=title,
            paper=paper,
            year=year,
            arxiv=arxiv,
            maps=MappingProxyType(dict(maps or {})),
            identity_at_init=identity_at_init,
            neutral=neutral or identity_at_init,
            limits=MappingProxyType(dict(limits or {})),
            former=MappingProxyType(dict(former or {})),
            limited_with=MappingProxyType(dict(limited_with or {})),
        )
        BLOCKS.add(spec, overwrite=overwrite)
        return factory

    return decorate


def register_policy(
    name: str,
    *,
    source: str = "",
    looks_for: str = "places of this kind",
    delegate: Callable[[Any], str] | None = None,
    overwrite: bool = False,
) -> Callable[[Decorated], Decorated]:
    """Register `find(trace, **options)` → list of sites as the policy `name`.

    The common filters (`stages=`, `include=`, …) are applied afterwards to every policy.

    Raises:
        OptionError: if the name is taken and `overwrite` is false.

    Example:
        >>> import attnzoo, torchvision
        >>> @attnzoo.register_policy("after-relu")
        ... def after_relu(trace):
        ...     relus = [call for call in trace.calls if call.type == "ReLU"]
        ...     return [trace.after(call) for call in relus if trace.output_map(call)]
        >>> len(attnzoo.plan(torchvision.models.squeezenet1_1(), "after-relu", "se").sites)
        26
    """

    def decorate(find: Decorated) -> Decorated:
        POLICIES.add(PolicySpec(name, find, source, looks_for, delegate), overwrite=overwrite)
        return find

    return decorate


def list_blocks(pattern: str = "*") -> list[str]:
    """Names of the registered blocks that match the wildcard `pattern`, in natural order.

    timm's own layers are blocks too, `timm:se` and so on; `list_blocks("timm:*")` lists them.
    """
    return BLOCKS.names(pattern)


def list_policies(pattern: str = "*") -> list[str]:
    """Names of the registered policies that match the wildcard `pattern`, in natural order."""
    return POLICIES.names(pattern)


def create_block(name: str, channels: int, **options: Any) -> nn.Module:
    """Build the block `name` for maps of shape `(N, channels, H, W)`.

    Raises:
        UnknownNameError: no such block; the message lists the closest names.
        OptionError: an option that the block does not have, or a value it does not allow.

    Example:
        >>> import torch, attnzoo
        >>> attnzoo.create_block("local", 64, reduction=8)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """
    return BLOCKS[name].build(channels, **options)
