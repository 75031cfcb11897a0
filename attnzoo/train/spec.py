"""What one run is, and what it came to: both go to the run's folder as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from attnzoo.train.config import Config
from attnzoo.train.data import DataSpec
from attnzoo.train.recipe import TrainRecipe

__all__ = ["RunResult", "RunSpec", "Variant", "policy_argument", "policy_title"]


class Variant(Config):
    """What is put into a backbone. Without a policy: nothing, the plain network.

    Attributes:
        name: what tables call it; made from policy and block where none is given.
        policy: as in `attnzoo.wrap`: a name, `[name, options]`, or a list of these; or None.
        block: name of the block.
        options: its options.
        start: `"identity"`, `"neutral"` or `"paper"`.
    """

    name: str = ""
    policy: str | list[Any] | None = None
    block: str = "local"
    options: dict[str, Any] = Field(default_factory=dict)
    start: Literal["identity", "neutral", "paper"] = "identity"

    @property
    def title(self) -> str:
        """The name, or one made from what it holds."""
        if self.name:
            return self.name
        if self.policy is None:
            return "plain"
        options = "".join(f" {key}={value}" for key, value in self.options.items())
        start = "" if self.start == "identity" else f" ({self.start})"
        return f"{policy_title(self.policy)} + {self.block}{options}{start}"


class RunSpec(Config):
    """Everything that a run's outcome depends on, apart from the machine.

    Attributes:
        backbone: as in `create_backbone`.
        backbone_options: go to the function that builds it; `num_classes` comes from the data.
        variant: what is put in.
        data: what to train and test on.
        train: how, the seed included.
    """

    backbone: str
    backbone_options: dict[str, Any] = Field(default_factory=dict)
    variant: Variant = Variant()
    data: DataSpec = Field(discriminator="name")
    train: TrainRecipe = TrainRecipe()

    @property
    def id(self) -> str:
        """Name of the run's folder: readable, and different for different specs."""
        content = self.model_dump_json(exclude={"train": {"loggers"}})  # they change no result
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        name = f"{self.backbone.rpartition('/')[2]}.{self.variant.title}.seed{self.train.seed}"
        safe = "".join(c if c.isalnum() or c in ".-_+=" else "-" for c in name.replace(" ", ""))
        return f"{safe[:80]}.{digest}"


class RunResult(Config):
    """What a run came to: one row of `results.csv`.

    Attributes:
        backbone, variant, policy, block, start, seed: which run.
        status: `"finished"`, or `"diverged"` where the loss stopped being a number.
        message: in the second case, at which step, and which layer went wrong first.
        top1: share of the test images right after the last epoch, 0 to 1 (not the best epoch:
            choosing that by the test set would flatter).
        top5: share with the right class among the five best; None with five classes or fewer.
        test_loss: cross-entropy then.
        sites: blocks put in.
        places: the policies that placed them, `auto` resolved.
        parameters, macs, activation_bytes: of the whole network, for one image of the run's size.
        gamma: mean |γ| at the end; None without γ.
        epochs: that were trained.
        seconds: of the run, building and testing included.
        train_seconds: in training steps alone.
        images_per_second: while training.
        backbone_hash: of the initial backbone weights: equal where runs started equally.
        device, versions: where it ran.
    """

    backbone: str
    variant: str
    policy: str
    block: str
    start: str
    seed: int
    status: Literal["finished", "diverged"]
    message: str
    top1: float | None
    top5: float | None = None
    test_loss: float | None
    sites: int
    places: str
    parameters: int
    macs: int
    activation_bytes: int
    gamma: float | None
    epochs: int
    seconds: float
    train_seconds: float
    images_per_second: float
    backbone_hash: str
    device: str
    versions: dict[str, str]


def policy_argument(policy: str | list[Any]) -> Any:
    """YAML and JSON have lists where `wrap` takes pairs."""
    if isinstance(policy, str):
        return policy
    if len(policy) == 2 and isinstance(policy[0], str) and isinstance(policy[1], Mapping):
        return (policy[0], policy[1])
    return [policy_argument(item) for item in policy]


def policy_title(policy: Any) -> str:
    if isinstance(policy, str):
        return policy
    parsed = policy_argument(policy)
    if isinstance(parsed, tuple):
        options = ", ".join(f"{key}={value}" for key, value in parsed[1].items())
        return f"{parsed[0]}({options})"
    return " + ".join(policy_title(item) for item in policy)
