"""What the variants of a study cost, as `costs.json` in its folder keeps it."""

from __future__ import annotations

from pathlib import Path

from attnzoo.errors import StudyError
from attnzoo.study.runs import write_atomically
from attnzoo.train import Config

__all__ = ["COSTS", "BackboneCosts", "Costs", "Spread", "VariantCosts", "read_costs", "write_costs"]

COSTS = "costs.json"


class Spread(Config):
    """A median with the quartiles around it."""

    median: float
    low: float
    high: float


class VariantCosts(Config):
    """What one variant costs.

    Attributes:
        variant: its title.
        latency: ms of a forward pass of one image.
        slowdown: that over the plain network's in the same round; 1 is as fast.
        images_per_second: in eval mode, at the size of the batches that one device trains on.
        saved_bytes: what a training pass of that size keeps for its backward pass, without the
            weights and the images: counted tensor by tensor, not the machine's measure.
        peak_bytes: on CUDA, the allocator's peak over forward and backward pass of that step,
            beyond what was there before; None elsewhere.
    """

    variant: str
    latency: Spread
    slowdown: Spread
    images_per_second: Spread
    saved_bytes: int
    peak_bytes: int | None = None


class BackboneCosts(Config):
    """The variants of one backbone, measured in turns.

    Attributes:
        backbone: its name.
        key: of everything that was measured, to tell whether it must be measured anew.
        device: where, in words.
        measured: when.
        batch_size, size: of the batches, and of the images in pixels a side.
        rounds: turns of one image, turns of a batch.
        variants: what they cost.
        failed: why there is nothing, where the measurement failed.
    """

    backbone: str
    key: str
    device: str
    measured: str
    batch_size: int
    size: int
    rounds: tuple[int, int] = (0, 0)
    variants: tuple[VariantCosts, ...] = ()
    failed: str = ""


class Costs(Config):
    """What the variants of a study cost, as `costs.json` keeps it."""

    backbones: tuple[BackboneCosts, ...] = ()

    def of(self, backbone: str, variant: str) -> VariantCosts | None:
        """What one variant costs, or None where it was not measured."""
        found = (v for b in self.backbones if b.backbone == backbone for v in b.variants)
        return next((entry for entry in found if entry.variant == variant), None)


def read_costs(folder: str | Path) -> Costs | None:
    """What was measured for the study in `folder`, or None.

    Raises:
        StudyError: the file is damaged.
    """
    path = Path(folder) / COSTS
    if not path.exists():
        return None
    try:
        return Costs.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} is damaged; `attnzoo ablate` measures anew.") from error


def write_costs(folder: str | Path, costs: Costs) -> None:
    """Leave what was measured in the study's folder."""
    write_atomically(Path(folder) / COSTS, costs.model_dump_json(indent=2))
