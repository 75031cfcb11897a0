"""Attention in the graphs that tracers and exporters make of a network: operations, no modules."""

from __future__ import annotations

import warnings

from torch import nn

from attnzoo.hosts.around import named

__all__ = ["warn_of_graphs"]

#: Names under which attention stands in a network, by mechanism: slot, insert, hook, wrap.
_NAMES = ("attn", "attention", "se")


def warn_of_graphs(model: nn.Module) -> None:
    """Say that a network holds attention only as operations in a graph, if that is so.

    `torch.fx`, torchvision's `create_feature_extractor` and `torch.export` keep parameters under
    their names, in modules of no class.
    """
    from torch.fx import GraphModule  # not above: it is loaded by those who trace

    if not any(isinstance(module, GraphModule) for module in model.modules()):
        return
    for path, module in named(model):
        name = path.rpartition(".")[2]
        bare = type(module).forward is nn.Module.forward  # it can't run: its graph runs it
        if bare and "block" in module._modules and name.startswith(_NAMES):
            warnings.warn(
                f"{type(model).__name__} was traced or exported: it runs the attention at {path!r} "
                f"as part of its graph and holds no attention that could be found. Ask the network "
                f"that it was made from.",
                stacklevel=3,
            )
            return
