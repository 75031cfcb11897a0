"""What a recipe holds fixed, and when it lets go of it."""

from __future__ import annotations

from torch import nn

from attnzoo.backbones import head_of
from attnzoo.errors import OptionError
from attnzoo.hosts import modules_by_path
from attnzoo.surgery import attention_modules
from attnzoo.train.recipe import TrainRecipe
from attnzoo.tuning import freeze, unfreeze

__all__ = ["hold_fixed", "path_of", "stages"]

ALL = "all"  # what `freeze` and `unfreeze` of a recipe call the whole backbone
BUT_HEAD = "backbone"  # what `freeze` calls everything but the head


def hold_fixed(model: nn.Module, until: str, shape: tuple[int, int, int], fresh_head: bool) -> None:
    """Hold fixed what a recipe says; the head learns where it is to, or has to."""
    if until == ALL and not attention_modules(model):
        raise OptionError(
            "freeze='all' leaves a network without attention nothing to learn. Write "
            "freeze='backbone', which leaves its head to learn, or the path of the last module to "
            "hold fixed."
        )
    keep: tuple[str, ...] = ()
    if until == BUT_HEAD or fresh_head:
        try:
            keep = head_of(model, shape)
        except OptionError:
            if until == BUT_HEAD:
                raise
            # A path says itself what comes after it; only of attention alone nothing would.
    freeze(model, until=None if until in (ALL, BUT_HEAD) else until, keep=keep)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OptionError(f"freeze={until!r} leaves nothing to learn. Name an earlier module.")


def path_of(name: str) -> str | None:
    """A module's path for `unfreeze`; None is the whole network."""
    return None if name == ALL else name


def stages(model: nn.Module, recipe: TrainRecipe) -> list[tuple[int, str]]:
    """`unfreeze` in the order of epochs, its paths looked up before anything is trained."""
    known = modules_by_path(model)
    for path in recipe.unfreeze.values():
        if path != ALL and path not in known:
            unfreeze(model, start=path)  # raises, and names what is near
    return sorted(recipe.unfreeze.items())
