"""Mixup and CutMix, by timm, with draws that depend on seed, epoch and step alone.

Mixup: H. Zhang et al. 2018, arXiv:1710.09412. CutMix: S. Yun et al. 2019, arXiv:1905.04899.
"""

from __future__ import annotations

from collections.abc import Callable

from timm.data import Mixup
from torch import Tensor

from attnzoo.train.keys import drawing
from attnzoo.train.recipe import TrainRecipe

__all__ = ["Mix", "make_mixing"]

Mix = Callable[[Tensor, Tensor, tuple[int, ...]], tuple[Tensor, Tensor]]
"""Images `(N, 3, S, S)`, labels `(N,)`, what the draws depend on → images, targets `(N, K)`."""

MARK = 0x1B873593  # apart from the keys of images, which have a seed first, too


def make_mixing(recipe: TrainRecipe, classes: int) -> Mix | None:
    """What mixes a batch with itself reversed, labels smoothed as well; None where none is."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    mixup = Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )

    def mix(images: Tensor, labels: Tensor, place: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        with drawing((MARK, *place)):
            return mixup(images, labels)

    return mix
