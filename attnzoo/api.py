"""The two verbs: `plan` looks, `wrap` does."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from attnzoo.hosts import Start, parameters_by_name, warn_of_unfilled
from attnzoo.policies import PolicyLike
from attnzoo.surgery import (
    Plan,
    Recipe,
    add_parameters,
    carry_out,
    check_optimizer,
    cut_short,
    make_plan,
    parse_recipe,
    sharing,
    warn_of_optimizers,
)
from attnzoo.tracing import undisturbed

__all__ = ["plan", "wrap"]


@undisturbed
def plan(
    model: nn.Module,
    policy: PolicyLike | Recipe = "auto",
    block: str = "local",
    *,
    start: Start = "identity",
    example: Any = None,
    name: str | None = None,
    strict: bool = False,
    shared: bool = False,
    **block_options: Any,
) -> Plan:
    """What `wrap` with the same arguments would do. Changes nothing; print it for a table.

    See `wrap` for the arguments and for what is raised.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> with torch.device("meta"):  # no weights are needed to plan
        ...     model = torchvision.models.vgg16()
        >>> plan = attnzoo.plan(model, "pre-pool", "local")
        >>> [site.channels for site in plan.sites]
        [64, 128, 256, 512, 512]
        >>> plan.parameters
        232365
    """
    recipe = parse_recipe(policy, block, start, block_options, name)
    return make_plan(model, sharing(recipe) if shared else recipe, example, strict=strict)


@undisturbed
def wrap(
    model: nn.Module,
    policy: PolicyLike | Recipe = "auto",
    block: str = "local",
    *,
    start: Start = "identity",
    example: Any = None,
    name: str | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    strict: bool = False,
    shared: bool = False,
    **block_options: Any,
) -> nn.Module:
    """Put attention blocks into a model, at the places a policy names.

    Args:
        model: any convolutional network, on any device, in any mode. Changed in place.
        policy: name of a policy, a pair `(name, options)`, a list of these, or a `Recipe` (which
            then brings block, options and start). Besides its own options every policy takes the
            filters `stages`, `include`, `exclude`, `min_channels`, `max_resolution`, `every`,
            `occupied` and `shared`.
        block: name of a block. See `list_blocks`.
        start: `"identity"`: `y = x + γ·(block(x) − x)` with γ zero at first, per channel, so that
            the model computes bit for bit what it did before. `"neutral"`: the same without γ, by
            gates that are exactly 1 at first; for blocks whose spec says that they have it.
            `"paper"`: `y = block(x)`, initialised as the block's paper says.
        example: what to trace the model with: an input size `(C, H, W)`, a tensor, or a tuple or
            dict of arguments. Without it the model's own default is taken: timm's `default_cfg`,
            the size of torchvision's weights, else 224 × 224.
        name: of what is put in, so that `switch` and `unwrap` know it from what else is there.
        optimizer: one that was made for the model before: the new parameters are added to it, in
            groups of their own with the options of its first one; those of fewer than two axes
            are not decayed. Make a learning-rate schedule after that. Without it, there is a
            warning where an optimizer lives that holds the model's parameters.
        strict: whether to refuse a model whose forward pass cannot be followed to its end, because
            values decide how it goes on. Otherwise places are looked for up to there; where layers
            would run later, there is a warning.
        shared: whether one block may act at all calls of a module that runs several times, as the
            trunk of a Siamese network, a head for all levels or a loop over time. The same as the
            filter of that name for each policy. Otherwise such places are left out.
        **block_options: options of the block.

    Returns:
        The same model. `unwrap` takes the blocks out again.

    Raises:
        UnknownNameError: no such policy or block; the closest names are listed.
        OptionError: an option is unknown or out of range; the optimizer is another model's.
        NoSitesError: the policy finds no place; the message says why and which policies do.
        SiteError: a place cannot take a block: shared, called twice, occupied.
        TraceError: the forward pass failed on the example, or, with `strict`, could not be
            followed to its end.
        UnsupportedModelError: the model is compiled, scripted, or set up for parallel training.
        SurgeryError: the model did not run as planned afterwards.

    Whatever is raised, the model is as it was.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "se", reduction=8)
        >>> list(attnzoo.attention_modules(model))[:2]
        ['layer1.0.attn.block', 'layer1.1.attn.block']
    """
    recipe = parse_recipe(policy, block, start, block_options, name)
    if optimizer is not None:
        check_optimizer(optimizer, model)
    made = make_plan(model, sharing(recipe) if shared else recipe, example, strict=strict)
    if made.trace.never_run:
        warnings.warn(cut_short(made.trace), stacklevel=4)
    before = parameters_by_name(model).values()
    warn_of_unfilled(model)
    carry_out(made)
    if optimizer is None:
        warn_of_optimizers(model, before)
        return model
    known = {id(parameter) for parameter in before}
    named = parameters_by_name(model).items()
    add_parameters(optimizer, ((name, p) for name, p in named if id(p) not in known))
    return model
