"""Names → blocks and names → policies: decorators, entry points, wildcard lists, closest names."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar, get_args

from torch import nn

from attnzoo.checks import check_choice, check_int, check_keywords, did_you_mean, keyword_options
from attnzoo.errors import OptionError, UnknownNameError

__all__ = [
    "BLOCKS",
    "POLICIES",
    "BlockKind",
    "BlockSpec",
    "Limit",
    "MapKind",
    "PolicySpec",
    "create_block",
    "list_blocks",
    "list_policies",
    "register_block",
    "register_policy",
]

BlockKind = Literal["channel", "spatial", "both", "context", "control"]
MapKind = Literal["channel", "spatial", "both", "pairwise"]
Limit = Literal["shapes", "options", "determinism", "compile", "export", "onnx", "maps", "neutral"]
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


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
            submodule that returns the attention map, a neutral start) → why, in a sentence or two.
        former: option → what was built before there was this option, or this default. A recipe
            from that time, which does not name it, means that.
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

    @property
    def options(self) -> dict[str, Any]:
        """Option → default value (`inspect.Parameter.empty` where it must be given)."""
        return {name: p.default for name, p in keyword_options(self.factory).items()}

    @property
    def summary(self) -> str:
        """First line of the factory's docstring."""
        return (self.factory.__doc__ or "").strip().partition("\n")[0]

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `OptionError` for an option this block does not have."""
        check_keywords(f"block {self.name!r}", options, self.options)

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
        return {name: p.default for name, p in keyword_options(self.find).items()}

    @property
    def summary(self) -> str:
        """First line of the policy's docstring."""
        return (self.find.__doc__ or "").strip().partition("\n")[0]


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(t)) if t.isdecimal() else (1, t) for t in re.split(r"(\d+)", name) if t]


def _makes(spec: BlockSpec | PolicySpec | None, target: object) -> bool:
    """Whether `spec` was registered for the very function or class `target`."""
    function = spec.factory if isinstance(spec, BlockSpec) else getattr(spec, "find", None)
    return function is target


Spec = TypeVar("Spec", BlockSpec, PolicySpec)


class Registry(Generic[Spec]):
    """Specs by name. Entry points of other packages are read when a look-up first needs them."""

    def __init__(self, noun: str, group: str) -> None:
        self.noun = noun
        self.group = group
        self._specs: dict[str, Spec] = {}
        self._families: dict[str, tuple[tuple[str, ...], Callable[[str], Spec]]] = {}
        self._entry_points_read = False

    def _load_own(self) -> None:
        """Register what attnzoo has itself: the package that is called as the entry points are."""
        import_module(self.group)  # costs nothing after the first time, and waits for other threads

    def add(self, spec: Spec, *, overwrite: bool = False) -> None:
        """Register `spec`.

        Raises:
            OptionError: if the name is empty, or taken and `overwrite` is false.
        """
        if not spec.name or any(c.isspace() or c in "*?[]/" for c in spec.name):
            raise OptionError(
                f"{self.noun} name {spec.name!r}: use letters, digits, '-', '_', ':' or '.'."
            )
        self._load_own()
        if spec.name in self._specs and not overwrite:
            raise OptionError(
                f"{self.noun} {spec.name!r} is registered already; "
                f"choose another name or pass overwrite=True."
            )
        self._specs[spec.name] = spec

    def add_family(self, prefix: str, members: Iterable[str], make: Callable[[str], Spec]) -> None:
        """Register the names `prefix:member`, whose specs `make(member)` builds when asked for.

        They are listed only by patterns that begin with the prefix: they are another library's.
        """
        self._families[prefix] = (tuple(members), cache(make))

    def _member(self, name: object) -> Spec | None:
        prefix, _, member = str(name).partition(":")
        members, make = self._families.get(prefix, ((), None))
        return make(member) if make is not None and member in members else None

    def __getitem__(self, name: str) -> Spec:
        self._load_own()
        if name not in self._specs:
            spec = self._member(name)
            if spec is not None:
                return spec
            self._read_entry_points()
        if name not in self._specs:
            prefix = str(name).partition(":")[0]
            known = self.names(f"{prefix}:*" if prefix in self._families else "*")
            raise UnknownNameError(
                f"no {self.noun} is called {name!r}.{did_you_mean(str(name), known)} "
                f"There are: {', '.join(known)}."
            )
        return self._specs[name]

    def __contains__(self, name: object) -> bool:
        self._read_entry_points()
        return name in self._specs or self._member(name) is not None

    def __iter__(self) -> Iterator[Spec]:
        return (self[name] for name in self.names())

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match the wildcard `pattern`, in natural order."""
        self._read_entry_points()
        names = set(self._specs)
        for prefix, (members, _) in self._families.items():
            if pattern.startswith(f"{prefix}:"):
                names.update(f"{prefix}:{member}" for member in members)
        return sorted((n for n in names if fnmatch.fnmatchcase(n, pattern)), key=_natural)

    def _read_entry_points(self) -> None:
        """Load what other packages offer.

        An entry point names a function or class to register under the entry point's name, or a
        module that registers its own when imported. One that cannot be loaded, or whose name is
        taken, is left out with a warning: it must not take the other names down with it.
        """
        self._load_own()
        if self._entry_points_read:
            return
        self._entry_points_read = True
        register = register_block if self.noun == "block" else register_policy
        for point in entry_points(group=self.group):
            before = self._specs.get(point.name)
            try:
                target = point.load()  # importing it may register by decorator
                spec = self._specs.get(point.name)
                by_decorator = spec is not before or _makes(spec, target)
                if callable(target) and not by_decorator:
                    register(point.name)(target)
            except Exception as error:
                warnings.warn(
                    f"{self.noun} {point.name!r} of entry point {point.value!r} is left out: "
                    f"{type(error).__name__}: {error}",
                    stacklevel=2,
                )


BLOCKS: Registry[BlockSpec] = Registry("block", "attnzoo.blocks")
POLICIES: Registry[PolicySpec] = Registry("policy", "attnzoo.policies")


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
    overwrite: bool = False,
) -> Callable[[Decorated], Decorated]:
    """Register an `nn.Module` class (or function) as the block `name`.

    It is called as `factory(channels, **options)` and must return a module that maps
    `(N, C, H, W)` to the same shape. See `BlockSpec` for the other arguments.

    Raises:
        OptionError: if the name is taken (and `overwrite` is false), or a kind or a limit is
            unknown.

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
        spec = PolicySpec(name, find, source, looks_for, delegate)
        POLICIES.add(spec, overwrite=overwrite)
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
