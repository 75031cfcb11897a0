"""TrainRecipe: how one run is trained. Frozen, validated, and written beside the results."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from attnzoo.errors import OptionError
from attnzoo.train.config import Config

__all__ = ["TrainRecipe"]

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


class TrainRecipe(Config):
    """How a network is trained: optimizer, schedule, what is held fixed, and on what it runs.

    Attributes:
        epochs: passes over the training images; 0 measures the network as it is.
        batch_size: images an optimizer step, over all devices and accumulated passes; they divide
            it. The last images of an epoch, too few for a step, are left out.
        accumulate: forward and backward passes a step.
        optimizer: `"adamw"`, or `"sgd"` with Nesterov's momentum.
        lr: learning rate at the end of the warm-up.
        momentum: of SGD; AdamW has its own.
        weight_decay: of weights; biases, norms and γ have none.
        schedule: after the warm-up, `"cosine"` falls to zero, `"step"` falls every `step_epochs`.
        step_epochs: epochs between two falls of `"step"`.
        step_factor: what `"step"` multiplies the learning rate by.
        warmup_epochs: length of the linear warm-up, may be a fraction.
        label_smoothing: share of the target spread over all classes.
        class_weights: what each class's images count for in the loss: `"balanced"` so much more
            as there are fewer of them, or a number a class.
        sampler: `"balanced"` draws as many images of each class in an epoch, those of small
            classes several times, each time augmented anew; None takes every image once.
        clip_norm: largest norm of all gradients together; longer ones are shortened to it.
        mixup: strength α of mixup; 0 is none. With `cutmix` too, each batch gets one of them.
        cutmix: strength α of CutMix; 0 is none.
        ema: decay of an exponential moving average of the weights, such as 0.9999; it is what is
            tested and kept. Early in training the decay is lower.
        attention_lr_scale: learning rate of attention parameters over `lr`.
        wrapped_lr_scale: learning rate of networks with attention over that of plain ones.
        freeze: path of the last module to hold fixed; `"backbone"`: everything but the head; or
            `"all"`. Attention always learns, and so does a head that is fresh.
        unfreeze: epoch → path of the module from which on everything is trained from that epoch
            on, or `"all"`.
        precision: `"auto"` is bfloat16 autocast on CUDA and float32 elsewhere; `"fp16"` scales
            the loss.
        device: `"auto"` takes the accelerator there is.
        devices: processes on this machine, one a device; `"auto"` is all GPUs. `torchrun` decides
            where it is used.
        nodes: machines that take part.
        strategy: how processes share the work: `"ddp"` (which `"auto"` is), or `"fsdp"`, which
            shards parameters and optimizer too.
        loggers: where to log besides TensorBoard: `"wandb"` (Weights & Biases), `"mlflow"`.
        seed: of the initial weights, the order of the images, their augmentation and dropout.

    Example:
        >>> from attnzoo.train import TrainRecipe
        >>> TrainRecipe(epochs=10, lr=3e-4, freeze="layer2", unfreeze={5: "all"}).batch_size
        32
    """

    added: ClassVar[tuple[str, ...]] = ("class_weights", "sampler")

    epochs: int = Field(5, ge=0)
    batch_size: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.05, ge=0)
    schedule: Literal["cosine", "step"] = "cosine"
    step_epochs: int = Field(30, ge=1)
    step_factor: float = Field(0.1, gt=0, le=1)
    warmup_epochs: float = Field(1.0, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    class_weights: Literal["balanced"] | tuple[Weight, ...] | None = None
    sampler: Literal["balanced"] | None = None
    clip_norm: float | None = Field(None, gt=0)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    ema: float | None = Field(None, gt=0, lt=1)
    attention_lr_scale: float = Field(1.0, gt=0)
    wrapped_lr_scale: float = Field(1.0, gt=0)
    freeze: str | None = None
    unfreeze: dict[int, str] = Field(default_factory=dict)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Count | Literal["auto"] = 1
    nodes: int = Field(1, ge=1)
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    loggers: tuple[Literal["wandb", "mlflow"], ...] = ()
    seed: int = Field(0, ge=0, lt=2**32)

    def images_a_pass(self, processes: int) -> int:
        """Images that one process takes at once.

        Raises:
            OptionError: processes and accumulated passes do not divide the batch.
        """
        parts = processes * self.accumulate
        images, rest = divmod(self.batch_size, parts)
        if rest:
            near = max(1, images) * parts
            raise OptionError(
                f"batch_size={self.batch_size} is what a step takes over all devices; "
                f"{processes} processes × accumulate={self.accumulate} do not divide it. "
                f"Try {near} or {near + parts}."
            )
        if images % 2 and (self.mixup or self.cutmix):
            raise OptionError(
                f"mixup and cutmix mix the images of a pass two by two; with "
                f"batch_size={self.batch_size} over {processes} processes × "
                f"accumulate={self.accumulate} a pass has {images}. Make it even."
            )
        return images

    @model_validator(mode="after")
    def _fits(self) -> TrainRecipe:
        if self.epochs and self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} is longer than epochs={self.epochs}"
            )
        late = [epoch for epoch in self.unfreeze if not 2 <= epoch <= self.epochs]
        if late:
            raise ValueError(
                f"unfreeze={self.unfreeze}: epochs are counted from 1, and there are "
                f"{self.epochs}; name one from 2 on"
            )
        if self.unfreeze and self.freeze is None:
            raise ValueError(f"unfreeze={self.unfreeze} needs freeze, else nothing is frozen")
        if self.strategy == "fsdp" and (self.ema is not None or self.unfreeze):
            raise ValueError(
                "strategy='fsdp' goes without ema and unfreeze: they change whole parameters, "
                "and it holds shards. Use strategy='ddp'"
            )
        if self.strategy == "fsdp" and self.precision == "fp16":
            raise ValueError("strategy='fsdp' has no loss scaling; use precision='bf16'")
        if self.devices != "auto":
            try:
                self.images_a_pass(self.devices * self.nodes)
            except OptionError as error:
                raise ValueError(str(error).removesuffix(".")) from None
        return self
