"""Putting blocks in and taking them out, all of them or none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.attention import Attended, Attention, Replaced
from attnzoo.edits import Edit
from attnzoo.errors import (
    AttnzooError,
    NotWrappedError,
    OptionError,
    SiteError,
    SurgeryError,
    TraceError,
)
from attnzoo.fusing import unfuse
from attnzoo.garbage import collection_paused
from attnzoo.probe import Rehearsal, rehearse
from attnzoo.recipe import Recipe
from attnzoo.registry import BLOCKS, BlockSpec
from attnzoo.sites import Site
from attnzoo.trace import Trace
from attnzoo.tree import get_module, join, paths_by_module, split

__all__ = [
    "Attended",
    "Attention",
    "Operation",
    "Replaced",
    "attention_modules",
    "build_attention",
    "build_block",
    "operate",
    "operations",
    "recipes",
    "unwrap",
]

#: Where a model keeps the record of what was done to it: a tuple of `Operation`s.
_RECORD = "_attnzoo_operations"


@dataclass(frozen=True)
class Operation:
    """What one `wrap` did: the recipe, the sites it found, the edits it made.

    `step` is higher than that of all attention that was there before: edits may stand on others,
    made through the whole model or a part of it, and are undone the other way round.
    """

    recipe: Recipe
    sites: tuple[Site, ...]
    edits: tuple[Edit, ...]
    step: int = 1


@collection_paused()
@torch.inference_mode(False)  # parameters made in that mode could never be trained
def operate(
    model: nn.Module,
    recipe: Recipe,
    sites: Sequence[Site],
    edits: Sequence[Edit],
    trace: Trace,
    example: Any = None,
) -> nn.Module:
    """Put attention at every site; afterwards its forward pass is rehearsed.

    Args:
        model: changed in place.
        recipe: says which block, with which options and start.
        sites: the places.
        edits: how attention gets to each.
        trace: of the model as it is now.
        example: what it was traced with.

    Raises:
        SurgeryError: the model is not the one that was traced, or a block does not run exactly
            once. Whatever is raised, the model is then as it was before.
    """
    _check_unchanged(model, trace)
    places = [split(edit.path)[0] or site.path for site, edit in zip(sites, edits, strict=True)]
    with torch.random.fork_rng(devices=[]):
        attentions = [
            build_attention(recipe, site, _first_device(model, place))
            for site, place in zip(sites, places, strict=True)
        ]
    there = (module.step for module in model.modules() if isinstance(module, Attention))
    step = 1 + max(there, default=0)
    is_last = cache(lambda path: _is_channels_last(get_module(model, path)))
    for place, attention in zip(places, attentions, strict=True):
        attention.step = step
        _settle(attention, model, place, is_last)
    done: list[Edit] = []
    try:
        for edit, attention in zip(edits, attentions, strict=True):
            edit.apply(model, attention)
            done.append(edit)
        with _first_of_a_kind(attentions, sites):
            after = _rehearse(model, attentions, example)
        _verify(trace, after, sites)
        _check_paths(model, attentions, sites, edits)
    except BaseException:
        for edit in reversed(done):
            edit.undo(model)
        raise
    operation = Operation(recipe, tuple(sites), tuple(edits), step)
    model.__dict__[_RECORD] = (*model.__dict__.get(_RECORD, ()), operation)
    return model


def unwrap(model: nn.Module) -> nn.Module:
    """Take all attention out again; the model is changed in place and returned.

    Module types, state-dict keys, their order and the outputs are those from before `wrap`. A
    fused model is unfused first.

    Raises:
        NotWrappedError: if neither the model nor a module in it was wrapped.

    Example:
        >>> import attnzoo, torchvision
        >>> model = torchvision.models.vgg11()
        >>> keys = list(model.state_dict())
        >>> list(attnzoo.unwrap(attnzoo.wrap(model, "pre-pool")).state_dict()) == keys
        True
    """
    wrapped = [module for module in model.modules() if _RECORD in module.__dict__]
    if not wrapped:
        inside = any(isinstance(module, Attention) for module in model.modules())
        raise NotWrappedError(
            f"{type(model).__name__} holds no attention that attnzoo.wrap put in"
            + (" through it: a module around it was wrapped. Unwrap that one." if inside else ".")
        )
    unfuse(model)
    done = [(operation, module) for module in wrapped for operation in module.__dict__.pop(_RECORD)]
    for operation, module in sorted(done, key=lambda item: item[0].step, reverse=True):
        for edit in reversed(operation.edits):
            edit.undo(module)
    return model


def operations(model: nn.Module) -> tuple[tuple[str, Operation], ...]:
    """`(path of the module that was wrapped, what was done)`, in order."""
    done = (
        (path, operation)
        for path, module in model.named_modules()
        for operation in module.__dict__.get(_RECORD, ())
    )
    return tuple(sorted(done, key=lambda item: item[1].step))


def recipes(model: nn.Module) -> list[Recipe]:
    """The recipes that were applied to the model, in order; empty for a plain one."""
    return [operation.recipe for _, operation in operations(model)]


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Path → attention block, for every block that attnzoo put in; empty for a plain model."""
    return {
        join(path, "block"): module.block
        for path, module in model.named_modules()
        if isinstance(module, Attention)
    }


def build_block(
    spec: BlockSpec, channels: int, options: Mapping[str, Any], device: str
) -> nn.Module:
    """A block on `device`.

    Raises:
        OptionError: the block refuses its options.
        SiteError: it cannot be built for another reason.
    """
    try:
        with _default_device(device):
            block = spec.build(channels, **options)
    except AttnzooError:
        raise
    except Exception as error:
        raise SiteError(
            f"block {spec.name!r} cannot be built for {channels} channels: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(block, nn.Module):
        raise OptionError(f"block {spec.name!r} builds a {type(block).__name__}, not an nn.Module.")
    return block


def build_attention(recipe: Recipe, site: Site, device: str) -> Attention:
    """The attention that `recipe` puts at `site`, on `device`."""
    spec = BLOCKS[recipe.block]
    block = build_block(spec, site.channels, recipe.options, device)
    # In a module's place, a block that returns its input does not return what the module did.
    starts_right = spec.identity_at_init and site.where != "replace"
    gamma = recipe.start == "identity" and not starts_right
    return Attention(block, spec.name, site.channels, gamma=gamma, axes=site.axes, device=device)


def _default_device(device: str) -> AbstractContextManager[Any]:
    """`torch.device(device)` as a context, which slows every torch call, only if it is needed."""
    needed = torch.get_default_device() != torch.device(device)
    return torch.device(device) if needed else nullcontext()


def _check_unchanged(model: nn.Module, trace: Trace) -> None:
    now = {
        (paths, f"{type(module).__module__}.{type(module).__qualname__}")
        for module, paths in paths_by_module(model).items()
    }
    if now != {(info.paths, info.qualname) for info in trace.modules.values()}:
        raise SurgeryError(
            f"{type(model).__name__} was changed after this plan was made. Make a new plan."
        )


def _first_device(model: nn.Module, path: str) -> str:
    """Where to build: on meta for a network there, else on the CPU.

    The same seed then gives the same weights on every device.
    """
    tensor = _closest_tensor(model, path)
    return "meta" if tensor is not None and tensor.is_meta else "cpu"


def _settle(
    attention: Attention, model: nn.Module, path: str, is_last: Callable[[str], bool]
) -> None:
    """Device, dtype, memory format and mode of the modules around the place."""
    tensor = _closest_tensor(model, path)
    if tensor is not None and (tensor.device.type, tensor.dtype) != ("cpu", torch.float32):
        attention.to(device=tensor.device, dtype=tensor.dtype)
    if any(is_last(prefix) for prefix in _prefixes(path)):
        attention.to(memory_format=torch.channels_last)
    attention.train(get_module(model, path).training)


def _prefixes(path: str) -> Iterator[str]:
    """`"a.b"` → `"a.b"`, `"a"`, `""`."""
    yield path
    while path:
        path = split(path)[0]
        yield path


def _closest_tensor(model: nn.Module, path: str) -> Tensor | None:
    """The first floating-point parameter or buffer of the module at `path`, or of one around it."""
    for prefix in _prefixes(path):
        module = get_module(model, prefix)
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.is_floating_point():
                return tensor
    return None


def _is_channels_last(module: nn.Module) -> bool:
    """The memory format of the first weight whose strides tell (those of 1×1 kernels do not)."""
    for tensor in module.parameters():
        if tensor.ndim == 4:
            last = tensor.is_contiguous(memory_format=torch.channels_last)
            if last != tensor.is_contiguous():
                return last
    return False


@contextmanager
def _first_of_a_kind(attentions: Sequence[Attention], sites: Sequence[Site]) -> Generator[None]:
    """One block for each shape of map: the others would only do the same thing again."""
    kinds = [(site.channels, site.height, site.width, site.axes) for site in sites]
    repeated = [a for i, a in enumerate(attentions) if kinds[i] in kinds[:i]]
    blocks = [attention.block for attention in repeated]
    for attention in repeated:
        attention.block = nn.Identity()
    try:
        yield
    finally:
        for attention, block in zip(repeated, blocks, strict=True):
            attention.block = block


def _rehearse(model: nn.Module, attentions: Sequence[nn.Module], example: Any) -> Rehearsal:
    try:
        return rehearse(model, attentions, example)
    except TraceError as error:
        cause = error.__cause__
        raise SurgeryError(
            f"with attention in place the forward pass of {type(model).__name__} fails: "
            f"{type(cause).__name__}: {cause}\nThe model was put back as it was."
        ) from error


def _verify(before: Trace, after: Rehearsal, sites: Sequence[Site]) -> None:
    """Every block ran once, on a map of the shape that was planned; the outputs kept theirs."""
    for site, maps in zip(sites, after.maps, strict=True):
        if len(maps) != 1:
            raise SurgeryError(
                f"attention {site} ran {len(maps)} times in one forward pass instead of once; "
                f"the model was put back as it was. Leave the place out by exclude=."
            )
        if maps[0] != before.values[site.value].shape:
            raise SurgeryError(
                f"attention {site} was given a map of shape {maps[0]}; the model was put back as "
                f"it was."
            )
    if before.returned != after.returned:
        raise SurgeryError(
            f"the model's outputs changed shape from {before.returned} to {after.returned}; it was "
            f"put back as it was."
        )


def _check_paths(
    model: nn.Module, attentions: Sequence[Attention], sites: Sequence[Site], edits: Sequence[Edit]
) -> None:
    """Each attention is where its edit says; not so where another site's wrapper came around it."""
    paths = paths_by_module(model)
    for attention, site, edit in zip(attentions, sites, edits, strict=True):
        path = next(iter(paths.get(attention, ())), None)
        if path != edit.path:
            raise SurgeryError(
                f"attention {site} would be at {path!r} instead of {edit.path!r}, "
                f"because another site is around it; the model was put back as it was. Leave one "
                f"of the two out by exclude=."
            )
