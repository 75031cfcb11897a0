"""A training that is set up: network, optimizer, schedule and data, and one step of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm.utils
import torch
from safetensors.torch import save_file
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from attnzoo.errors import OptionError
from attnzoo.files import written_whole
from attnzoo.hosts import Attention, whole
from attnzoo.surgery import attention_modules
from attnzoo.train.data import TEST_BATCH, ImageData
from attnzoo.train.devices import trained_copy
from attnzoo.train.freezing import hold_fixed, path_of, stages
from attnzoo.train.mixing import make_mixing
from attnzoo.train.predictions import Predictions
from attnzoo.train.recipe import TrainRecipe
from attnzoo.train.schedule import Schedule
from attnzoo.train.tasks import check_task, loss_of, measured
from attnzoo.train.testing import predictions, summed, tested
from attnzoo.tuning import param_groups, unfreeze

__all__ = ["Progress", "Session"]


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: epochs that are over, tests included.
        step: steps done in the epoch in progress.
        losses, hits: of these steps; hits are right answers in this process.
        unfrozen: how many entries of the recipe's `unfreeze` have been done.
        rows: one for each epoch that is over.
        first_loss: of the first step of all.
        seconds: since the start, train_seconds: in training steps alone; of runs before this one
            too, where it is taken up again.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    hits: int = 0
    unfrozen: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    first_loss: float | None = None
    seconds: float = 0.0
    train_seconds: float = 0.0


class Session:
    """Everything that a training's steps use and change.

    Args:
        fabric: from `devices.launch`.
        model: what is trained, in place; under FSDP2 `finish` brings the weights back into it.
        data: what it is trained and tested on.
        recipe: how.
        fresh_head: whether the head is drawn anew, and has to learn whatever is frozen.

    Raises:
        UnknownNameError: `freeze` or `unfreeze` names no module.
        OptionError: what is frozen leaves nothing to learn, or no head is found to be left out.
    """

    def __init__(
        self,
        fabric: Any,
        model: nn.Module,
        data: ImageData,
        recipe: TrainRecipe,
        fresh_head: bool = False,
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.classes = len(data.classes)
        self.task = data.task
        check_task(self.task, recipe)
        self.places = data.test_places
        self.target = model
        self.stages = stages(model, recipe)
        if recipe.freeze is not None:
            hold_fixed(model, recipe.freeze, data.shape, fresh_head)
        self.train_loader, self.test_loader = data.loaders(
            recipe, fabric.global_rank, fabric.world_size
        )
        self.validation_loader = data.validation_loader(
            max(recipe.images_a_pass(fabric.world_size), TEST_BATCH),
            fabric.global_rank,
            fabric.world_size,
        )
        self.keys: Any = self.train_loader.sampler
        self.steps = self.keys.steps
        # Dropout draws the same masks in every variant, whatever building its blocks has drawn,
        # and others in each process.
        fabric.seed_everything(
            (recipe.seed + 1_000_003 * fabric.global_rank) % 2**32, verbose=False
        )
        self.model = trained_copy(model, fabric, data.shape)
        # Between a forward and the next one, FSDP2's parameters look like any others: keep in mind.
        self.sharded = self.model is not model
        if not self.sharded:
            self.model.to(memory_format=torch.channels_last)  # FSDP2 cuts contiguous weights only
        self.network: Any = fabric.setup_module(self.model)
        scale = recipe.wrapped_lr_scale if attention_modules(model) else 1.0
        self.lr = recipe.lr * scale
        self.optimizer = self._optimizer()
        self.stepper = fabric.setup_optimizers(self.optimizer)
        self.schedule = Schedule(self.optimizer, recipe, self.steps)
        self.mix = make_mixing(recipe, self.classes)
        self.class_weights = _class_weights(recipe, data, fabric.device)
        self.ema = (
            None
            if recipe.ema is None
            else ModelEmaV3(self.model, decay=recipe.ema, use_warmup=True)
        )
        self.progress = Progress()
        self.answers: Tensor | None = None  # of this process, on its test images

    @property
    def updates(self) -> int:
        """Optimizer steps done."""
        return self.progress.epoch * self.steps + self.progress.step

    @property
    def tested(self) -> nn.Module:
        """The network that is tested and kept: the moving average, where there is one."""
        return self.model if self.ema is None else self.ema.module

    def open_epoch(self) -> bool:
        """Unfreeze what the epoch in progress is to train; whether there was something."""
        due = [stage for stage in self.stages if stage[0] <= self.progress.epoch + 1]
        return self.unfreeze(len(due))

    def unfreeze(self, count: int) -> bool:
        """Do the first `count` entries of `unfreeze`, as far as they are not done."""
        new = self.stages[self.progress.unfrozen : count]
        for _, path in new:
            unfreeze(self.model, start=path_of(path))
        if not new:
            return False
        self.progress.unfrozen = count
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for group in self._groups():
            group["params"] = [p for p in group["params"] if id(p) not in known]
            if group["params"]:
                self.optimizer.add_param_group(group)
        self.schedule = Schedule(self.optimizer, self.recipe, self.steps)
        if self.fabric.world_size > 1:
            # DDP exchanges the gradients of what was trainable when it was set up.
            self.network = None
            self.network = self.fabric.setup_module(self.model)
        return True

    def batches(self) -> Iterator[Any]:
        """The passes of the epoch in progress that are not done."""
        self.keys.set_epoch(self.progress.epoch, self.progress.step)
        return iter(self.train_loader)

    def train_mode(self) -> None:
        """Dropout draws and norms learn their statistics, but for norms that are frozen."""
        self.network.train()
        for module in self.model.modules():
            if hasattr(module, "running_mean"):
                own = list(module.parameters(recurse=False))
                if own and not any(parameter.requires_grad for parameter in own):
                    module.eval()

    def step(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        """One optimizer step: mean loss and right answers of this process, on its device."""
        result = self.backward(batches)
        self.update()
        return result

    def backward(self, batches: Iterator[Any]) -> tuple[Tensor, Tensor]:
        """The gradients of one step, all passes together, at the learning rate it has."""
        self.schedule.set(self.updates)
        passes = self.recipe.accumulate
        self.stepper.zero_grad()
        total = hits = torch.zeros((), device=self.fabric.device)
        for number in range(passes):
            images, labels = self.fabric.to_device(next(batches))
            waits = number + 1 < passes
            with self.fabric.no_backward_sync(self.network, enabled=True) if waits else _AT_ONCE:
                loss, right = self._forward(images, labels, number)
                self.fabric.backward(loss / passes if passes > 1 else loss)
            total = total + loss.detach()
            hits = hits + right
        return total / passes if passes > 1 else total, hits

    def update(self) -> None:
        """Change the weights by the gradients there are."""
        if self.recipe.clip_norm is not None:
            self.fabric.clip_gradients(
                self.network,
                self.stepper,
                max_norm=self.recipe.clip_norm,
                error_if_nonfinite=False,
            )
        self.stepper.step()
        self.progress.step += 1
        if self.ema is not None:
            self.ema.update(self.model, step=self.updates)

    def next_epoch(self) -> None:
        """The epoch in progress is over."""
        progress = self.progress
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.losses, progress.hits = [], 0

    def share_statistics(self) -> None:
        """Take the mean of the statistics that the norms of all processes have learned."""
        if self.fabric.world_size > 1:
            timm.utils.distribute_bn(self.tested, self.fabric.world_size, reduce=True)

    def test(self, check: Callable[[], None] = lambda: None) -> dict[str, float | None]:
        """What is measured on all test images, and on the validation images where there are some.

        Mean cross-entropy, top-1, of more than five classes top-5, and balanced accuracy, the mean
        over the classes of the share that was right. `check` is called after every batch; it may
        raise.
        """
        self.share_statistics()
        found, self.answers = self._tested(self.test_loader, "test", check)
        if self.validation_loader is not None:
            found |= self._tested(self.validation_loader, "val", check)[0]
        return found

    def _tested(
        self, loader: Any, split: str, check: Callable[[], None]
    ) -> tuple[dict[str, float | None], Tensor | None]:
        if self.task != "classes":
            return measured(self.task, self.tested, loader, self.fabric, split, check), None
        return tested(self.tested, loader, self.fabric, split, self.classes, check)

    def predictions(self) -> Predictions | None:
        """What the network answered at the last test, which is made where there was none yet.

        None where it is asked for something else than one class.
        """
        if self.task != "classes":
            return None
        if self.answers is None:
            self.test()
        assert self.answers is not None
        return predictions(self.answers, self.fabric, self.classes, self.places)

    def summed(self, number: float) -> float:
        """`number` over all processes."""
        return summed(self.fabric, torch.tensor([number], dtype=torch.float64))[0]

    def gamma(self) -> float | None:
        """Mean |γ|: how far attention has been let in, 0 at an identity start. None without γ."""
        gammas = [
            whole(module.gamma).abs().mean()
            for module in self.tested.modules()
            if isinstance(module, Attention) and isinstance(module.gamma, Tensor)
        ]
        return float(torch.stack(gammas).mean()) if gammas else None

    def keep_as(self, path: Path) -> None:
        """Write what is tested, whole, to a file; all processes call it."""
        state = {key: whole(value) for key, value in self.tested.state_dict().items()}
        if self.fabric.is_global_zero:
            kept = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
            with written_whole(path) as partial:
                save_file(kept, partial)

    def finish(self) -> None:
        """Leave in the model that was given what is to be kept."""
        if self.sharded:
            self.target.load_state_dict({k: whole(v) for k, v in self.model.state_dict().items()})
        elif self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())

    def _forward(self, images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        targets, smoothing = labels, self.recipe.label_smoothing
        if self.mix is not None:
            place = (self.keys.seed, self.progress.epoch, self.progress.step)
            images, targets = self.mix(images, labels, (*place, number, self.fabric.global_rank))
            labels, smoothing = targets.argmax(1), 0.0
        outputs = self.network(images.contiguous(memory_format=torch.channels_last))
        if self.task != "classes":
            loss = loss_of(self.task, outputs[:, : self.classes], targets, smoothing)
            return loss, torch.zeros((), device=outputs.device)
        loss = F.cross_entropy(
            outputs, targets, weight=self.class_weights, label_smoothing=smoothing
        )
        return loss, (outputs.detach().argmax(1) == labels).sum()

    def _optimizer(self) -> Optimizer:
        recipe, groups = self.recipe, self._groups()
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(
                groups, lr=self.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0
            )
        return torch.optim.AdamW(groups, lr=self.lr)

    def _groups(self) -> list[dict[str, Any]]:
        recipe = self.recipe
        return param_groups(
            self.model, self.lr, recipe.weight_decay, attention_lr_scale=recipe.attention_lr_scale
        )


_AT_ONCE = nullcontext()


def _class_weights(recipe: TrainRecipe, data: ImageData, device: torch.device) -> Tensor | None:
    """Of the loss, with mean 1 over the training images."""
    if recipe.class_weights is None:
        return None
    counts = data.counts
    own = torch.ones(len(data.classes)) if counts is None else torch.tensor(counts["train"]).float()
    if recipe.class_weights == "balanced":
        weights = own.sum() / (len(own) * own.clamp_min(1))
    elif len(recipe.class_weights) != len(data.classes):
        raise OptionError(
            f"class_weights={list(recipe.class_weights)}: there are {len(data.classes)} classes, "
            f"{', '.join(data.classes[:5])}{', …' if len(data.classes) > 5 else ''}; give a number "
            f"for each, or 'balanced'."
        )
    else:
        weights = torch.tensor(recipe.class_weights)
        weights = weights * own.sum() / (weights * own).sum()
    return weights.to(device)
