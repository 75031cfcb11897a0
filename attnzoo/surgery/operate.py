"""Putting blocks in, all of them or none."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import (
    AttnzooError,
    OptionError,
    SiteError,
    SurgeryError,
    TraceError,
)
from attnzoo.hosts import (
    Attention,
    Start,
    get_module,
    paths_by_module,
    prefixes,
    split,
    tensors_below,
)
from attnzoo.registry import BLOCKS, BlockSpec
from attnzoo.surgery.changes import Changes
from attnzoo.surgery.edits import Edit
from attnzoo.surgery.recipe import Recipe
from attnzoo.surgery.record import RECORD, Operation
from attnzoo.surgery.rehearsal import Known, Place, Rehearsal, known_calls, rehearse
from attnzoo.tracing import Layout, Site, Trace, answer, own_draws, qualname

__all__ = [
    "build_attention",
    "build_block",
    "operate",
]


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
    """Put attention at every site, after its forward pass was rehearsed on a twin.

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
            once.

    Whatever is raised, by a signal too, the model is as it was, or has all its attention.
    """
    modules = _unchanged(model, trace)
    hosts = [split(edit.path)[0] or site.path for site, edit in zip(sites, edits, strict=True)]
    attentions: list[Attention] = []
    with own_draws():
        for site, host in zip(sites, hosts, strict=True):
            answer()
            attentions.append(build_attention(recipe, site, _first_device(model, host)))
    there = (module.step for module in modules.values() if isinstance(module, Attention))
    step = 1 + max(there, default=0)
    formats: dict[nn.Module, bool | None] = {}
    layouts = [tuple(trace.values[v].layout for v in site.values) for site in sites]
    for host, attention, each in zip(hosts, attentions, layouts, strict=True):
        attention.step = step
        _settle(attention, model, host, each[0], formats)
    places = [Place(*pair) for pair in zip(attentions, layouts, strict=True)]
    known = known_calls(trace, modules, [edit.path for edit in edits]) if just_traced else {}
    after = _rehearse(model, trace, places, known, example, edits)
    _verify(trace, after, sites)
    changes = Changes(model)
    for edit, attention in zip(edits, attentions, strict=True):
        edit.apply(changes, attention)
    _check_paths(changes, attentions, sites, edits)
    operation = Operation(recipe, tuple(sites), tuple(edits), step)
    changes.set_attribute(model, RECORD, (*vars(model).get(RECORD, ()), operation))
    changes.commit()
    return model


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
        block,
        spec.name,
        site.channels,
        gamma=gamma,
        axes=site.axes,
        insertion=recipe.name,
        device=device,
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
    attention: Attention,
    model: nn.Module,
    path: str,
    layout: Layout,
    formats: dict[nn.Module, bool | None],
) -> None:
    """Device, memory format and mode of the modules around the place; the dtype of its map."""
    tensor, dtype = _closest_tensor(model, path), layout[2]
    if not dtype.is_floating_point:
        raise SiteError(
            f"the map at {path!r} holds {dtype}; attention takes floating-point numbers."
        )
    device = None if tensor is None else tensor.device
    training = get_module(model, path).training
    if not _is_settled(attention, device, dtype, training):
        attention.to(device=device, dtype=dtype)
        attention.train(training)
    around = (get_module(model, prefix) for prefix in (path, *prefixes(path)))
    if any(_is_channels_last(module, formats) for module in around):
        attention.to(memory_format=torch.channels_last)


def _is_settled(
    attention: Attention, device: torch.device | None, dtype: torch.dtype, training: bool
) -> bool:
    """Whether nothing is left to do: to go through the modules by `to` and `train` takes longer."""
    for module in attention.modules():
        if module.training is not training:
            return False
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None:
                continue
            if tensor.dtype not in (dtype, torch.int64) or device not in (None, tensor.device):
                return False
    return True


def _closest_tensor(model: nn.Module, path: str) -> Tensor | None:
    """The first floating-point parameter or buffer of the module at `path`, or of one around it."""
    for prefix in (path, *prefixes(path)):
        for tensor in tensors_below(get_module(model, prefix)):
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
    model: nn.Module,
    trace: Trace,
    places: Sequence[Place],
    known: Known,
    example: Any,
    edits: Sequence[Edit],
) -> Rehearsal:
    """What the model does now: without the calls that are known if that goes well, else whole."""
    shapes = (tuple(layout[0] for layout in place.layouts) for place in places)
    planned = Rehearsal(tuple(shapes), trace.returned)
    if known and rehearse(model, places, example, known, edits, trace.stopped) == planned:
        return planned
    try:
        whole = rehearse(model, places, example, None, edits, trace.stopped)
    except TraceError as error:
        cause = error.__cause__
        raise SurgeryError(
            f"with attention in place the forward pass of {type(model).__name__} fails: "
            f"{type(cause).__name__}: {cause}"
        ) from error
    assert whole is not None
    return whole


def _verify(before: Trace, after: Rehearsal, sites: Sequence[Site]) -> None:
    """Every block ran as often, and on maps of the shapes, as planned; the outputs kept theirs."""
    for site, maps in zip(sites, after.maps, strict=True):
        planned = tuple(before.values[value].shape for value in site.values)
        if len(maps) != len(planned):
            once = "once" if len(planned) == 1 else f"{len(planned)} times"
            raise SurgeryError(
                f"attention {site} ran {len(maps)} times in one forward pass instead of "
                f"{once}. Leave the place out by exclude=."
            )
        if maps != planned:
            wrong = next(one for one, two in zip(maps, planned, strict=True) if one != two)
            raise SurgeryError(f"attention {site} was given a map of shape {wrong}.")
    if before.returned != after.returned:
        raise SurgeryError(
            f"the model's outputs changed shape from {before.returned} to {after.returned}."
        )


def _check_paths(
    changes: Changes, attentions: Sequence[Attention], sites: Sequence[Site], edits: Sequence[Edit]
) -> None:
    """Each attention is where its edit says; not so where another site's wrapper came around it."""
    for attention, site, edit in zip(attentions, sites, edits, strict=True):
        try:
            there = changes.get(edit.path)
        except SiteError:
            there = None
        if there is not attention:
            raise SurgeryError(
                f"attention {site} would not be at {edit.path!r}, because another site is around "
                f"it. Leave one of the two out by exclude=."
            )
