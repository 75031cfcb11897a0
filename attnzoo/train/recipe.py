"""TrainRecipe: how one run is trained. Frozen, validated, and written beside the results."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from attnzoo.train.config import Config

__all__ = ["TrainRecipe"]


class TrainRecipe(Config):
    """How a network is trained: the optimizer, its schedule, and what is held fixed.

    The learning rate rises linearly over the warm-up, then falls to zero along a cosine.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step; a last, smaller batch is left out.
        optimizer: `"adamw"` or `"sgd"` (Nesterov).
        lr: learning rate at the end of the warm-up.
        momentum: of SGD; AdamW has its own.
        weight_decay: of weights; biases, norms and γ have none.
        warmup_epochs: length of the warm-up, may be a fraction.
        label_smoothing: share of the target spread over all classes.
        attention_lr_scale: learning rate of attention parameters over `lr`.
        freeze: path of the last module to hold fixed, or None. Attention always learns.
        precision: `"auto"` is bfloat16 autocast on CUDA and float32 elsewhere.
        device: `"auto"` takes the accelerator there is.
        seed: of the initial weights, the order of the images, their augmentation and dropout.

    Example:
        >>> from attnzoo.train import TrainRecipe
        >>> TrainRecipe(epochs=10, lr=3e-4).batch_size
        32
    """

    epochs: int = Field(5, ge=1)
    batch_size: int = Field(32, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.05, ge=0)
    warmup_epochs: float = Field(1.0, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    attention_lr_scale: float = Field(1.0, gt=0)
    freeze: str | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _warmup_fits(self) -> TrainRecipe:
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} is longer than epochs={self.epochs}"
            )
        return self
