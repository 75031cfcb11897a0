"""What one run is, and what it came to: both go to the run's folder as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from attnzoo.backbones import InputOptions, input_options
from attnzoo.errors import OptionError
from attnzoo.train.config import Config
from attnzoo.train.describing import DataSpec, DigitsData, Redrawn
from attnzoo.train.recipe import TrainRecipe

Keep = Literal["attention", "all", "best"]

#: The digest that names options of the block which were others by default once.
BLOCK = "block"

__all__ = ["BLOCK", "Keep", "RunResult", "RunSpec", "Variant", "policy_argument", "policy_title"]


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
        weights: trained weights that the backbone begins with: a name of torchvision's or timm's,
            or a file; None is fresh ones.
        variant: what is put in.
        data: what to train and test on.
        train: how, the seed included.
        strict: whether to refuse a network whose forward pass cannot be followed to its end, as
            in `attnzoo.wrap`, where attention is put in.
        keep: what of the network is left in the run's folder: `"attention"` alone, `"all"` of it
            as it is at the end, or `"best"`: all of it as it was after the epoch with the best
            top-1 on the validation images, or on the test images where there are none.
        digests: of what it depends on beside this: `data`, `code`, `weights`, and as `block` the
            options that are left to defaults which were others once. Filled in when it is run;
            then it is told apart by these, and not by where its files are.
    """

    added: ClassVar[tuple[str, ...]] = ("weights", "strict", "keep", "digests")

    backbone: str
    backbone_options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    variant: Variant = Variant()
    data: DataSpec = Field(discriminator="name")
    train: TrainRecipe = TrainRecipe()
    strict: bool = False
    keep: Keep = "all"
    digests: dict[str, str] = Field(default_factory=dict)

    @property
    def freezing_fault(self) -> str:
        """Why nothing would be left to learn, or "" where something is."""
        if self.train.freeze != "all" or self.variant.policy is not None:
            return ""
        return (
            f"{self.backbone}, {self.variant.title}: freeze='all' leaves a network without "
            f"attention nothing to learn. Write freeze='backbone', which leaves its head to learn "
            f"and is the same for all variants."
        )

    @property
    def building(self) -> dict[str, Any]:
        """What the backbone is built with, as `create_backbone` takes it; without `num_classes`."""
        options = dict(self.backbone_options)
        among = options.pop("weights", None)
        return {**options, "weights": among if self.weights is None else self.weights}

    @property
    def expected(self) -> InputOptions:
        """What the backbone's weights expect of pictures."""
        options = self.building
        return input_options(self.backbone, options.pop("weights"), options)

    @property
    def drawn(self) -> DataSpec:
        """The data, as they are drawn for this run's seed where that is asked for."""
        return self.data.at(self.train.seed) if isinstance(self.data, Redrawn) else self.data

    @property
    def prepared(self) -> DataSpec:
        """The same, with what the backbone's weights expect where nothing is given."""
        data = self.drawn
        return data if isinstance(data, DigitsData) else data.filled(self.expected)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, `(C, S, S)`."""
        data = self.prepared
        assert data.size is not None
        return (getattr(data, "channels", 3), data.size, data.size)

    @property
    def identity(self) -> str:
        """What the outcome depends on, as text: not where it is logged, what is kept or refused."""
        left: dict[str, Any] = {"train": {"loggers"}, "strict": True, "keep": True}
        if "data" in self.digests:
            left["data"] = {"root", "workers", "check", "digest"}  # where it is, and how it is read
        if "weights" in self.digests:
            left["weights"] = True
        return self.model_dump_json(exclude=left)

    @property
    def before_digests(self) -> RunSpec | None:
        """The same run as it was described before there were digests; None where it differs."""
        if self.weights is not None or self.expected != InputOptions():
            return None  # its pictures were prepared in another way
        if BLOCK in self.digests:
            return None  # the block was another one
        data = self.data
        if not isinstance(data, DigitsData):
            old = {"size": data.size or 224, "test_crop": data.test_crop or 1.0}
            data = data.model_copy(update=old)
        return self.model_copy(update={"digests": {}, "data": data})

    def is_that(self, done: RunSpec) -> bool:
        """Whether `done` is this run, perhaps as it was described before there were digests."""
        old = None if done.digests else self.before_digests
        return done.id == self.id or (old is not None and done.id == old.id)

    @property
    def id(self) -> str:
        """Name of the run's folder: readable, and different for different specs."""
        digest = hashlib.sha256(self.identity.encode()).hexdigest()[:8]
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
        balanced: mean over the classes of the share that was right.
        macro_f1: mean over the classes of F1.
        calibration_error: expected, over 15 bins of confidence.
        map, f1: of several labels an image, mean over the labels of average precision and F1.
        mae, r2: of a number an image, the mean absolute error and the variance that is explained.
        test_loss: cross-entropy then, the negative log-likelihood in nats; of numbers the mean
            squared error.
        sites: blocks put in.
        places: the policies that placed them, `auto` resolved.
        parameters, macs, activation_bytes: of the whole network, for one image of the run's size.
        gamma: mean |γ| at the end; None without γ.
        epochs: that were trained.
        seconds: of the run, building and testing included.
        train_seconds: in training steps alone.
        images_per_second: while training.
        backbone_hash: of the initial backbone weights: equal where runs started equally.
        weights: the trained weights that the backbone began with; "" is none.
        weights_digest: of their tensors.
        weights_note: what of them was and was not loaded, and which head was replaced.
        kept: what of the network is in the run's folder, in words.
        first_loss: of the first training step; ln(classes) is that of a guess.
        input: how pictures became images.
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
    balanced: float | None = None
    macro_f1: float | None = None
    calibration_error: float | None = None
    map: float | None = None
    f1: float | None = None
    mae: float | None = None
    r2: float | None = None
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
    weights: str = ""
    weights_digest: str = ""
    weights_note: str = ""
    kept: str = ""
    first_loss: float | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    device: str
    versions: dict[str, str]


def policy_argument(policy: str | list[Any]) -> Any:
    """YAML and JSON have lists where `wrap` takes pairs."""
    if isinstance(policy, str):
        return policy
    if not isinstance(policy, list | tuple):
        raise OptionError(
            f"policy={policy!r}: write a name, [name, {{option: value}}], or a list of these."
        )
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
