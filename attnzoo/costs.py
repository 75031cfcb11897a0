"""What a model costs, and what of it is attention: parameters, MACs, bytes of activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnzoo.hosts import Attention, get_module, parameters_by_name
from attnzoo.tracing import Count, count, model_dtype, probe, resolve_example, undisturbed

__all__ = ["Cost", "SiteCost", "cost"]


@dataclass(frozen=True)
class SiteCost:
    """What the attention at one site costs.

    Attributes:
        path: of the attention in the module tree.
        block: name of the block.
        channels, height, width: of its feature map.
        parameters: block and γ.
        macs: multiply-accumulate operations.
        activation_bytes: of the tensors it makes.
    """

    path: str
    block: str
    channels: int
    height: int
    width: int
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Cost:
    """What one forward pass of a model costs, for the whole example (one image by default).

    Attributes:
        parameters: of the model, attention included.
        macs: multiply-accumulate operations (half the floating-point operations).
        activation_bytes: of all tensors the forward pass makes, views and in-place results not
            counted; training keeps at most this for the backward pass.
        sites: the part of each attention site.
        stopped: where the pass depends on values and could not be followed, and so counted, any
            further, as behind the non-maximum suppression of a detector; empty if it was to its
            end. Parameters are counted all.
    """

    parameters: int
    macs: int
    activation_bytes: int
    sites: tuple[SiteCost, ...]
    stopped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "parameters": self.parameters,
            "macs": self.macs,
            "activation_bytes": self.activation_bytes,
            "stopped": self.stopped,
            "sites": [
                {name: getattr(site, name) for name in SiteCost.__dataclass_fields__}
                for site in self.sites
            ],
        }


@undisturbed
def cost(model: nn.Module, input_size: Any = None) -> Cost:
    """Count a model's parameters, MACs and activation bytes, for the whole and per site.

    No arithmetic is done: a twin of the model runs on meta tensors, in eval mode.

    Args:
        model: wrapped or plain.
        input_size: `(C, H, W)`, or any other example `wrap` takes; None for the model's default.

    Raises:
        TraceError: the forward pass failed on that input, or can't be followed to its end.
        UnsupportedModelError: the model is compiled, scripted, or set up for parallel training.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> with torch.device("meta"):  # no weights are needed to count
        ...     model = torchvision.models.vgg16()
        >>> cost = attnzoo.cost(model, (3, 224, 224))
        >>> cost.parameters, round(cost.macs / 1e9, 3)
        (138357544, 15.47)
    """
    trace = probe(model, input_size)
    if input_size is None and len(trace.inputs) == 1:
        input_size = trace.inputs[0].shape
    args, kwargs = resolve_example(model, input_size)
    counted = count(model, args, kwargs, input_size)
    known: dict[tuple[Any, ...], Count] = {}
    sites = []
    for call in trace.calls:
        attention = get_module(model, call.path)
        if isinstance(attention, Attention):
            value = trace.values[call.inputs[0]]
            parameters = sum(p.numel() for p in attention.parameters())
            key = (attention.name, value.shape, attention.gamma is None, parameters)
            if key not in known:
                x = torch.empty(value.shape, device="meta", dtype=model_dtype(model))
                known[key] = count(attention, (x,), {})
            sites.append(
                SiteCost(
                    path=call.path,
                    block=attention.name,
                    channels=value.channels,
                    height=value.height,
                    width=value.width,
                    parameters=parameters,
                    macs=known[key].macs,
                    activation_bytes=known[key].activation_bytes,
                )
            )
    return Cost(
        parameters=sum(p.numel() for p in parameters_by_name(model).values()),
        macs=counted.macs,
        activation_bytes=counted.activation_bytes,
        sites=tuple(sites),
        stopped=counted.stopped,
    )
