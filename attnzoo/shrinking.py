"""Blocks of learned width: the penalty that makes them narrow, and the cut that keeps them so."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnzoo.blocks import GatedUnits
from attnzoo.checks import check_number
from attnzoo.errors import NotWrappedError, OptionError, UnsupportedModelError
from attnzoo.hosts import modules_by_path
from attnzoo.tracing import checked_modules

__all__ = ["ShrinkReport", "ShrunkGate", "shrink", "sparsity_penalty"]


@dataclass(frozen=True)
class ShrunkGate:
    """What `shrink` did to the hidden units of one gate.

    Attributes:
        path: of the gate's `GatedUnits` in the model.
        before: hidden units there were.
        after: hidden units that are left, at least 1.
        parameters: how many were removed.
        largest: the largest gate among the removed units: 0 means that the outputs are the same.
    """

    path: str
    before: int
    after: int
    parameters: int
    largest: float


@dataclass(frozen=True)
class ShrinkReport:
    """What `shrink` removed, gate by gate; print it for a table.

    Attributes:
        gates: one entry per gate in the model, those that lost nothing included.
    """

    gates: tuple[ShrunkGate, ...]

    @property
    def units(self) -> int:
        """Hidden units removed."""
        return sum(gate.before - gate.after for gate in self.gates)

    @property
    def parameters(self) -> int:
        """Parameters removed."""
        return sum(gate.parameters for gate in self.gates)

    @property
    def exact(self) -> bool:
        """Whether every removed unit was closed, so that the outputs are unchanged."""
        return all(gate.largest == 0 for gate in self.gates)

    def __str__(self) -> str:
        lines = [f"{self.units} hidden units removed, {self.parameters:,} parameters."]
        lines += [f"{gate.path}: {gate.before} → {gate.after}" for gate in self.gates]
        if not self.exact:
            largest = max(gate.largest for gate in self.gates)
            lines.append(f"Gates up to {largest:.3g} were cut: outputs have changed.")
        return "\n".join(lines)


def sparsity_penalty(model: nn.Module) -> Tensor:
    """The sum of all gates of the model's `local-dynamic` blocks, to be added to the loss.

    Times a factor, it pulls each open gate down at the same pace; a gate that reaches zero stays
    closed and its unit can be removed by `shrink`.

    Returns:
        A scalar that gradients flow through.

    Raises:
        NotWrappedError: the model has no such block.

    Example:
        >>> import attnzoo, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "in-residual", "local-dynamic")
        >>> penalty = attnzoo.sparsity_penalty(model)
        >>> penalty.item(), penalty.requires_grad
        (960.0, True)
    """
    return torch.stack([units.gates.sum() for units in _gated_units(model).values()]).sum()


def shrink(model: nn.Module, threshold: float = 0.0) -> ShrinkReport:
    """Remove the hidden units of `local-dynamic` blocks whose gate is at most `threshold`.

    With the default, 0, only closed units go, whose output is exactly zero: the model computes
    what it did, up to the rounding of sums that are shorter now. A higher threshold removes
    units that still do something, and changes the outputs. Of each gate the most open unit stays,
    for a layer without units cannot be built.

    The parameters are new: make the optimizer after this. A shrunken model saves, and its file
    loads into a model wrapped by the same recipe, which takes on the widths in the file.

    Args:
        model: holds `local-dynamic` blocks, wrapped or not; changed in place.
        threshold: a number ≥ 0; gates start at 1.

    Raises:
        NotWrappedError: the model has no such block.
        OptionError: `threshold` is out of range, or a gate is NaN or infinite.
        UnsupportedModelError: the model is compiled or set up for parallel training, which holds
            on to the old parameters; or it is on the meta device, where gates have no values.

    Whatever is raised, the model is as it was.

    Example:
        >>> import attnzoo, torch
        >>> block = attnzoo.create_block("local-dynamic", 64)
        >>> _ = torch.nn.init.zeros_(block.spatial_attention.units.openness[3:])
        >>> print(attnzoo.shrink(block))
        13 hidden units removed, 871 parameters.
        channel_attention.units: 16 → 16
        spatial_attention.units: 16 → 3
    """
    check_number("shrink", "threshold", threshold, minimum=0.0)
    if math.isinf(threshold):
        raise OptionError(f"shrink: threshold={threshold!r} must be finite.")
    _refuse_unsupported(model)
    gated = _gated_units(model)
    kept, gates = {}, []
    for path, units in gated.items():
        values = units.gates.detach()
        if values.is_meta:
            raise UnsupportedModelError(
                f"shrink: {path} is on the meta device: no gate has a value."
            )
        if not values.isfinite().all():
            raise OptionError(f"shrink: {path} has a gate that is NaN or infinite.")
        # By the number behind the gate: among closed ones it still tells which closed last.
        stays = values > threshold
        stays[units.openness.argmax()] = True
        if not stays.all():
            kept[path] = units.kept(stays.nonzero().flatten())
        removed = values[~stays]
        after = int(stays.sum())
        per_unit = units.reduce.in_channels + units.expand.out_channels + 2
        gates.append(
            ShrunkGate(
                path,
                before=len(stays),
                after=after,
                parameters=(len(stays) - after) * per_unit,
                largest=float(removed.max()) if len(removed) else 0.0,
            )
        )
    for path, parameters in kept.items():
        gated[path].put(parameters)
    return ShrinkReport(tuple(gates))


def _refuse_unsupported(model: nn.Module) -> None:
    try:
        checked_modules(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"shrink replaces parameters, and this model must keep them. Shrink the plain model. "
            f"({error})"
        ) from error


def _gated_units(model: nn.Module) -> dict[str, GatedUnits]:
    found = {path: m for path, m in modules_by_path(model).items() if isinstance(m, GatedUnits)}
    if not found:
        raise NotWrappedError(
            f"{type(model).__name__} has no block of learned width. Put some in by "
            f'attnzoo.wrap(model, policy, block="local-dynamic").'
        )
    return found
