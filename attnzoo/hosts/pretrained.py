"""Networks of transformers, which builds, fills and saves them in ways of its own."""

from __future__ import annotations

import warnings

from torch import nn

__all__ = ["is_of_transformers", "warn_of_unfilled"]


def is_of_transformers(model: nn.Module) -> bool:
    """Whether its class is one of transformers', or derives from one; that is not imported."""
    return any(
        cls.__name__ == "PreTrainedModel" and cls.__module__.startswith("transformers.")
        for cls in type(model).__mro__
    )


def warn_of_unfilled(model: nn.Module) -> None:
    """Say so where attention comes while `from_pretrained` builds the network without memory.

    It then fills attention from the checkpoint, and what that does not have it draws by rules that
    know convolutions and norms; a γ stays as the memory was.
    """
    if not is_of_transformers(model) or not any(p.is_meta for p in model.parameters()):
        return
    name = type(model).__name__
    warnings.warn(
        f"{name} is on the meta device, as within from_pretrained. Attention that the checkpoint "
        f"does not have will not start as it should: transformers leaves γ as the memory was. For "
        f"plain weights call {name}.from_pretrained(…) first, then attnzoo.wrap; to keep and load "
        f"attention take attnzoo.save_pretrained and from_pretrained.",
        stacklevel=5,  # past what `undisturbed` adds
    )
