"""The learning rate over a training: a linear warm-up, then a cosine or steps, by timm."""

from __future__ import annotations

from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch.optim import Optimizer

from attnzoo.train.recipe import TrainRecipe

__all__ = ["Schedule"]


class Schedule:
    """Sets the learning rate of every group of an optimizer, as a share of the group's own.

    It holds no state: the rate depends on the number of steps done.

    Args:
        optimizer: its groups' `initial_lr`, or `lr` where there is none yet, is the rate after
            the warm-up.
        recipe: says how.
        steps: optimizer steps an epoch.
    """

    def __init__(self, optimizer: Optimizer, recipe: TrainRecipe, steps: int) -> None:
        self.warmup = round(recipe.warmup_epochs * steps)
        rest = max(2, recipe.epochs * steps - self.warmup)  # of one step timm warns
        self.timm: Scheduler
        if recipe.schedule == "cosine":
            self.timm = CosineLRScheduler(
                optimizer, rest, warmup_t=self.warmup, warmup_prefix=True, t_in_epochs=False
            )
        else:
            # Epochs of steps are counted from the start of the training, as recipes mean it.
            self.timm = StepLRScheduler(
                optimizer,
                recipe.step_epochs * steps,
                recipe.step_factor,
                warmup_t=self.warmup,
                warmup_prefix=False,
                t_in_epochs=False,
            )

    def set(self, done: int) -> None:
        """Set the rates for the step after the first `done`."""
        # timm starts a warm-up at zero; counted from one, no step is wasted on that.
        self.timm.step_update(done + 1 if done < self.warmup else done)
