"""The training loop: one network, one recipe, on Lightning Fabric."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnzoo.errors import OptionError
from attnzoo.train.data import ImageData
from attnzoo.train.devices import launch
from attnzoo.train.diagnose import find_first_fault
from attnzoo.train.opened import image_data
from attnzoo.train.predictions import Predictions
from attnzoo.train.recipe import TrainRecipe
from attnzoo.train.records import Records
from attnzoo.train.session import Session
from attnzoo.train.state import CHECKPOINT, Keeper
from attnzoo.train.stopping import LOOK_EVERY, Interrupted, Stop, asked_of_all, catching_stops
from attnzoo.train.tracking import Tracking
from attnzoo.train.watch import Watch

__all__ = ["FitResult", "fit", "is_best", "score"]

FAR = 2  # times the loss of a guess, from which on a first loss is said to be odd


@dataclass
class FitResult:
    """How a training went.

    Attributes:
        status: `"finished"`, or `"diverged"` where the loss stopped being a number. The model
            then has its last good weights.
        message: in the second case, at which step, and which layer went wrong first.
        epochs: one row an epoch: `epoch`, `step`, `lr`, `train_loss`, `train_top1`, `test_loss`,
            `test_top1`, `test_top5` with more than five classes, `test_balanced` (shares; of other
            tasks their measures), the same as `val_…` with validation images, `gamma` (mean |γ|;
            empty without attention), `seconds` since the start.
        seconds: from the first batch to the last evaluation.
        train_seconds: of that, in training steps.
        images_per_second: while training.
        first_loss: of the first step, before anything was learned.
        predictions: on the test images, at the end; None where it diverged.
    """

    status: Literal["finished", "diverged"] = "finished"
    message: str = ""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    train_seconds: float = 0.0
    images_per_second: float = 0.0
    first_loss: float | None = None
    predictions: Predictions | None = None


def fit(
    model: nn.Module,
    data: ImageData | Sequence[Any],
    recipe: TrainRecipe,
    *,
    folder: str | Path | None = None,
    identity: str | None = None,
    watch: Watch | None = None,
    name: str = "training",
    fabric: Any = None,
    leave_checkpoint: bool = False,
    fresh_head: bool = False,
    best: str | Path | None = None,
    tracking: Tracking | None = None,
) -> FitResult:
    """Train a model in place. The global random state is seeded from the recipe.

    Afterwards the model is where it was trained, and its weights are laid out channels last, which
    changes no result.

    With a folder, a training that is interrupted (Ctrl-C, SIGTERM, or the machine's end) leaves a
    checkpoint there, and the same call goes on from it to the same result, on a CPU bit for bit.

    Args:
        model: maps `(N, C, S, S)` to `(N, classes)`. It moves to the recipe's device.
        data: from `open_data` or `image_data`; or a pair of plain map-style data sets, to train
            and to test on, whose items are an image tensor `(C, S, S)` and its class.
        recipe: how.
        folder: gets `metrics.csv` (a line an epoch), `tensorboard/`, and while the training is
            not over `checkpoint.pt`.
        identity: what a checkpoint must have been made by to be taken up; the recipe, without it.
        watch: is told about the progress.
        name: what the progress bar calls this run.
        fabric: from `attnzoo.train.devices.launch`, where it is there already.
        leave_checkpoint: when the training is over, for a caller that has more to write first.
        best: a file that gets the state dict of the best epoch so far, by top-1 on the validation
            images, or on the test images where there are none.
        fresh_head: whether the head is drawn anew: it then learns, whatever is frozen.
        tracking: group and tags of this run in the recipe's loggers.

    Raises:
        OptionError: the recipe asks for a device or a precision that is not here, or the model
            has fewer outputs than there are classes.
        DataError: the training images do not fill one batch.
        UnknownNameError: `freeze` or `unfreeze` names no module.
        Interrupted: Ctrl-C or SIGTERM came.
        MissingExtraError: Lightning Fabric is not installed.
    """
    fabric = fabric or launch(recipe)
    data = _image_data(data)
    _check_outputs(model, data)
    session = Session(fabric, model, data, recipe, fresh_head)
    first = fabric.is_global_zero
    path = None if folder is None else Path(folder)
    checkpoint = None if path is None else path / CHECKPOINT
    keeper = Keeper(session, checkpoint, identity or recipe.model_dump_json())
    said = keeper.take_up()
    records = Records(
        path if first else None,
        name,
        recipe.loggers if first else (),
        recipe.model_dump(mode="json"),
        done=session.updates,
        tracking=tracking,
    )
    watch = (watch or Watch()) if first else Watch()
    watch.begin(name, recipe.epochs * session.steps)
    if said:
        watch.say(f"{name}: {said}")
        watch.resume(session.updates)
        records.write(session.progress.rows)
    with catching_stops() as stop:
        result = _Loop(session, keeper, records, watch, stop, name, best).run()
    session.finish()
    if first and checkpoint is not None and not leave_checkpoint:
        checkpoint.unlink(missing_ok=True)
    return result


def _image_data(data: ImageData | Sequence[Any]) -> ImageData:
    if isinstance(data, ImageData):
        return data
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        train, *validation, test = data
        return image_data(train, test, *validation)
    raise OptionError(
        f"fit: data is a {type(data).__name__}. Give what open_data or image_data returned, or a "
        f"pair of data sets, (train, test)."
    )


def score(row: Mapping[str, Any]) -> float:
    """What epochs are chosen by: top-1 or mAP, else the loss, of validation or of test images."""
    split = "val" if "val_loss" in row else "test"
    found = (row.get(f"{split}_{name}") for name in ("top1", "map"))
    return next((value for value in found if value is not None), -row[f"{split}_loss"])


def is_best(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no epoch was as good as the last one."""
    return all(score(row) < score(rows[-1]) for row in rows[:-1])


class _Loop:
    """Epoch after epoch, until the last, a loss that is no number, or a signal."""

    def __init__(
        self,
        session: Session,
        keeper: Keeper,
        records: Records,
        watch: Watch,
        stop: Stop,
        name: str,
        best: str | Path | None = None,
    ) -> None:
        self.session = session
        self.name = name
        self.keeper = keeper
        self.records = records
        self.watch = watch
        self.best = None if best is None else Path(best)
        self.recipe = session.recipe
        self.stopped = asked_of_all(stop, session.fabric)
        self.began = time.perf_counter() - session.progress.seconds

    def run(self) -> FitResult:
        """Go through the epochs that are not done."""
        session, recipe = self.session, self.recipe
        result = FitResult()
        taken, train_seconds = session.updates, session.progress.train_seconds
        if not recipe.epochs and not session.progress.rows:
            self._measure(0)
        while session.progress.epoch < recipe.epochs:
            if session.open_epoch():
                self.keeper.keep_in_memory()  # a state holds what was trainable when it was kept
            bad = self._train()
            taken, train_seconds = session.updates, session.progress.train_seconds
            if bad is not None:
                result.status = "diverged"
                result.message = self._explain(*bad)
                break
            self._test()
        if result.status == "finished":
            result.predictions = session.predictions()
        result.epochs, result.first_loss = session.progress.rows, session.progress.first_loss
        result.seconds = time.perf_counter() - self.began
        result.train_seconds = train_seconds
        if train_seconds:
            result.images_per_second = taken * recipe.batch_size / train_seconds
        self.records.close(good=result.status == "finished")
        return result

    def _train(self) -> tuple[int, float] | None:
        """The steps of the epoch in progress that are not done; step and loss of a bad one."""
        session, progress, steps = self.session, self.session.progress, self.session.steps
        if progress.step == steps:
            return None  # interrupted between training and testing
        session.train_mode()
        waiting: list[Tensor] = []
        hits: Tensor | int = progress.hits
        batches = session.batches()
        before, began = progress.train_seconds, time.perf_counter()
        while progress.step < steps:
            loss, right = session.step(batches)
            waiting.append(loss)
            hits = hits + right
            wanted = self.stopped(progress.step)
            if progress.step % LOOK_EVERY and progress.step < steps and not wanted:
                self.watch.step()
                continue
            seen = session.fabric.all_reduce(torch.stack(waiting), reduce_op="mean").tolist()
            waiting.clear()
            first = session.updates - len(seen) + 1
            progress.losses += seen
            progress.train_seconds = before + time.perf_counter() - began
            if progress.first_loss is None:
                self._note_first_loss(seen[0])
            bad = next((i for i, value in enumerate(seen) if not math.isfinite(value)), None)
            if bad is not None:
                return first + bad, seen[bad]
            self.watch.step(seen[-1])
            self.records.step(session.updates, seen[-1], session.optimizer.param_groups[0]["lr"])
            if wanted:
                progress.hits = int(hits)
                self._stop(wanted)
        progress.hits = int(hits)
        return None

    def _note_first_loss(self, loss: float) -> None:
        """A network that knows nothing of these classes should guess: ln(classes), about."""
        self.session.progress.first_loss = loss
        guess = math.log(self.session.classes)
        if loss > FAR * guess + 1 and self.session.task == "classes":
            self.watch.say(
                f"{self.name}: the first loss is {loss:.1f}; a guess among {self.session.classes} "
                f"classes has {guess:.1f}. The head starts far too large, as torchvision and timm "
                f"draw it for EfficientNets with fresh weights and training gets over; or the "
                f"images are not scaled as the network expects."
            )

    def _test(self) -> None:
        """Measure, and close the epoch."""
        row = self._measure(self.session.progress.epoch + 1)
        session, progress = self.session, self.session.progress
        if self.best is not None and is_best(progress.rows):
            session.keep_as(self.best)
        session.next_epoch()
        progress.seconds = row["seconds"]
        self.keeper.keep()
        self.watch.epoch(row)
        if progress.epoch < self.recipe.epochs:
            self._stop_if_asked()

    def _measure(self, epoch: int) -> dict[str, Any]:
        """Test, and add a line to the records."""
        session, progress = self.session, self.session.progress
        check = self._stop_if_asked if session.fabric.world_size == 1 else (lambda: None)
        measured = session.test(check)
        session.schedule.set(session.updates)
        row = {
            "epoch": epoch,
            "step": session.updates,
            "lr": session.optimizer.param_groups[0]["lr"],
            "train_loss": sum(progress.losses) / len(progress.losses) if epoch else None,
            "train_top1": self._train_top1() if epoch and session.task == "classes" else None,
            **measured,
            "gamma": session.gamma(),
            "seconds": time.perf_counter() - self.began,
        }
        progress.rows.append(row)
        self.records.epoch(progress.rows)
        return row

    def _train_top1(self) -> float:
        seen = self.session.steps * self.recipe.batch_size
        return self.session.summed(self.session.progress.hits) / seen

    def _stop_if_asked(self) -> None:
        if wanted := self.stopped(0):
            self._stop(wanted)

    def _stop(self, number: int) -> None:
        """Keep everything and go."""
        progress = self.session.progress
        progress.seconds = time.perf_counter() - self.began
        self.keeper.keep()
        self.records.close(good=False)
        kept = "" if self.keeper.path is None else " The same command goes on from there."
        raise Interrupted(
            f"Stopped after step {progress.step} of {self.session.steps} in epoch "
            f"{progress.epoch + 1}.{kept}",
            number,
        )

    def _explain(self, step: int, loss: float) -> str:
        rows = self.session.progress.rows
        finding = find_first_fault(self.session, self.keeper, step)
        self.session.progress.rows = rows  # of epochs since the state that it fell back on, too
        cause = finding or "it was not so when the steps before it were repeated"
        return (
            f"the loss was {loss} at step {step} (epoch "
            f"{(step - 1) // self.session.steps + 1}); {cause}; lower lr={self.recipe.lr:g}, "
            f"lengthen the warm-up or set clip_norm."
        )


@torch.no_grad()
def _check_outputs(model: nn.Module, data: ImageData) -> None:
    """See that there is an output for every class, by one test image."""
    training = {module: module.training for module in model.modules()}
    parameter = next(model.parameters())
    shape = (1, *data.shape)
    with torch.random.fork_rng(devices=[]):
        outputs = model.eval()(torch.zeros(shape, device=parameter.device, dtype=parameter.dtype))
    for module, mode in training.items():
        module.training = mode
    found, classes = tuple(getattr(outputs, "shape", ())), len(data.classes)
    if len(found) != 2 or found[1] < classes:
        raise OptionError(
            f"{type(model).__name__} returns {found} for one image, but the data have {classes} "
            f"classes: it must return (1, {classes}). Build it with num_classes={classes}."
        )
