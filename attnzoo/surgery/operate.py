"""Putting blocks in and taking them out, all of them or none."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import (
    AttnzooError,
    NotWrappedError,
    OptionError,
    SiteError,
    SurgeryError,
    TraceError,
)
from attnzoo.hosts import (
    Attended,
    Attention,
    Replaced,
    Start,
    get_module,
    join,
    paths_by_module,
    prefixes,
    split,
)
from attnzoo.registry import BLOCKS, BlockSpec
from attnzoo.surgery.edits import Edit
from attnzoo.surgery.fusing import unfuse
from attnzoo.surgery.recipe import Recipe
from attnzoo.surgery.rehearsal import Known, Place, Rehearsal, known_calls, rehearse
from attnzoo.tracing import Site, Trace, collection_paused, qualname

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
    *,
    just_traced: bool = False,
) -> nn.Module:
    """Put attention at every site; afterwards its forward pass is rehearsed.

    Args:
        model: changed in place.
        recipe: says which block, with which options and start.
        sites: the places.
        edits: how attention gets to each.
        trace: of the model as it is now.
        example: what it was traced with.
        just_traced: whether nobody had the model in hand since, so that what it did then need not
            be rehearsed.

    Raises:
        SurgeryError: the model is not the one that was traced, or a block does not run exactly
            once. Whatever is raised, the model is then as it was before.
    """
    modules = _unchanged(model, trace)
    hosts = [split(edit.path)[0] or site.path for site, edit in zip(sites, edits, strict=True)]
    with torch.random.fork_rng(devices=[]):
        attentions = [
            build_attention(recipe, site, _first_device(model, host))
            for site, host in zip(sites, hosts, strict=True)
        ]
    there = (module.step for module in modules.values() if isinstance(module, Attention))
    step = 1 + max(there, default=0)
    formats: dict[nn.Module, bool | None] = {}
    for host, attention in zip(hosts, attentions, strict=True):
        attention.step = step
        _settle(attention, model, host, formats)
    layouts = [trace.values[site.value].layout for site in sites]
    places = [Place(*pair) for pair in zip(attentions, layouts, strict=True)]
    done: list[Edit] = []
    try:
        for edit, attention in zip(edits, attentions, strict=True):
            edit.apply(model, attention)
            done.append(edit)
        known = known_calls(trace, modules, [edit.path for edit in edits]) if just_traced else {}
        after = _rehearse(model, trace, places, known, example)
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
        >>> model = torchvision.models.resnet18()
        >>> keys = list(model.state_dict())
        >>> list(attnzoo.unwrap(attnzoo.wrap(model, "post-residual")).state_dict()) == keys
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
    spec: BlockSpec, channels: int, options: Mapping[str, Any], device: str, start: Start = "paper"
) -> nn.Module:
    """A block on `device`, initialised for its start.

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
    if start == "neutral" and not spec.identity_at_init:
        start_neutral = getattr(block, "start_neutral", None)
        if start_neutral is None:
            raise OptionError(
                f"block {spec.name!r} is registered as neutral, and its {type(block).__name__} has "
                f"no method start_neutral."
            )
        start_neutral()
    return block


def build_attention(recipe: Recipe, site: Site, device: str) -> Attention:
    """The attention that `recipe` puts at `site`, on `device`."""
    spec = BLOCKS[recipe.block]
    block = build_block(spec, site.channels, recipe.options, device, recipe.start)
    # In a module's place, a block that returns its input does not return what the module did.
    starts_right = spec.identity_at_init and site.where != "replace"
    gamma = recipe.start == "identity" and not starts_right
    attention = Attention(
        block, spec.name, site.channels, gamma=gamma, axes=site.axes, device=device
    )
    if recipe.start == "neutral":
        attention.start = "neutral"
    return attention


def _default_device(device: str) -> AbstractContextManager[Any]:
    """`torch.device(device)` as a context, which slows every torch call, only if it is needed."""
    needed = torch.get_default_device() != torch.device(device)
    return torch.device(device) if needed else nullcontext()


def _unchanged(model: nn.Module, trace: Trace) -> dict[str, nn.Module]:
    """The modules of the trace by their first paths.

    Raises:
        SurgeryError: the model has others by now.
    """
    modules: dict[str, nn.Module] = {}
    for module, paths in paths_by_module(model).items():
        info = trace.modules.get(paths[0])
        if info is None or info.paths != paths or info.qualname != qualname(type(module)):
            break
        modules[paths[0]] = module
    if modules.keys() != trace.modules.keys():
        raise SurgeryError(
            f"{type(model).__name__} was changed after this plan was made. Make a new plan."
        )
    return modules


def _first_device(model: nn.Module, path: str) -> str:
    """Where to build: on meta for a network there, else on the CPU.

    The same seed then gives the same weights on every device.
    """
    tensor = _closest_tensor(model, path)
    return "meta" if tensor is not None and tensor.is_meta else "cpu"


def _settle(
    attention: Attention, model: nn.Module, path: str, formats: dict[nn.Module, bool | None]
) -> None:
    """Device, dtype, memory format and mode of the modules around the place."""
    tensor = _closest_tensor(model, path)
    if tensor is not None and (tensor.device.type, tensor.dtype) != ("cpu", torch.float32):
        attention.to(device=tensor.device, dtype=tensor.dtype)
    around = (get_module(model, prefix) for prefix in (path, *prefixes(path)))
    if any(_is_channels_last(module, formats) for module in around):
        attention.to(memory_format=torch.channels_last)
    attention.train(get_module(model, path).training)


def _closest_tensor(model: nn.Module, path: str) -> Tensor | None:
    """The first floating-point parameter or buffer of the module at `path`, or of one around it."""
    for prefix in (path, *prefixes(path)):
        module = get_module(model, prefix)
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.is_floating_point():
                return tensor
    return None


def _is_channels_last(module: nn.Module, known: dict[nn.Module, bool | None]) -> bool | None:
    """The memory format of the first weight whose strides tell (those of 1×1 kernels do not)."""
    if module not in known:
        known[module] = None
        own = (_has_channels_last(weight) for weight in module._parameters.values())
        below = (
            _is_channels_last(child, known)
            for child in module._modules.values()
            if child is not None
        )
        told = (last for last in itertools.chain(own, below) if last is not None)
        known[module] = next(told, None)
    return known[module]


def _has_channels_last(weight: Tensor | None) -> bool | None:
    """Whether a weight's channels are last; None where its strides do not tell."""
    if weight is None or weight.ndim != 4:
        return None
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return last if last != weight.is_contiguous() else None


def _rehearse(
    model: nn.Module, trace: Trace, places: Sequence[Place], known: Known, example: Any
) -> Rehearsal:
    """What the model does now: without the calls that are known if that goes well, else whole."""
    planned = Rehearsal(tuple((place.layout[0],) for place in places), trace.returned)
    if known and rehearse(model, places, example, known) == planned:
        return planned
    try:
        whole = rehearse(model, places, example)
    except TraceError as error:
        cause = error.__cause__
        raise SurgeryError(
            f"with attention in place the forward pass of {type(model).__name__} fails: "
            f"{type(cause).__name__}: {cause}\nThe model was put back as it was."
        ) from error
    assert whole is not None
    return whole


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
    for attention, site, edit in zip(attentions, sites, edits, strict=True):
        try:
            there = get_module(model, edit.path)
        except SiteError:
            there = None
        if there is not attention:
            path = paths_by_module(model)[attention][0]
            raise SurgeryError(
                f"attention {site} would be at {path!r} instead of {edit.path!r}, "
                f"because another site is around it; the model was put back as it was. Leave one "
                f"of the two out by exclude=."
            )
