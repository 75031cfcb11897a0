"""The base of blocks that are their map times gates, `y = x · g₁ · g₂ …`.

A block says how its gates are made. Here is what is done with them, for all blocks: x times the
gates, softened by γ where there is one, in the fused kernels where they can run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from attnzoo import kernels
from attnzoo.errors import OptionError

__all__ = ["Gated", "GatedByMap", "MapGate"]


class Gated(nn.Module, ABC):
    """A block that is its map times gates, `y = x · g₁ · g₂ …`.

    With γ, `y = x · (1 + γ·(g − 1))`. Kept for the backward pass are x, the gates and γ.

    `kind` names the fused kernels that compute the block: one of `attnzoo.kernels.shapes.KINDS`
    for gates from 1×1 convolutions, given by `layers`; others say by `run_kernels` how. A class
    that derives from a block has no kernels unless it names them itself, since it may have changed
    the formula.
    """

    if TYPE_CHECKING:
        kind: ClassVar[str]
        last_layers: tuple[str, ...]
    #: Whether the gates are added, `y = x · (g₁ + g₂)`, instead of multiplied.
    added = False
    #: Times the gates.
    scale = 1.0
    #: How often the gates are halved where all logits are zero: by each σ that is multiplied.
    halvings = 1
    #: Paths of the layers that end in σ: with all their parameters at zero, so are the logits.
    last_layers = ()

    def __init__(self) -> None:
        super().__init__()
        # TorchScript sees what an instance has, not what its class has.
        self.added, self.scale = type(self).added, type(self).scale

    @abstractmethod
    def gates(self, x: Tensor) -> list[Tensor]:
        """The gates of x (N, C, H, W): (N, C, 1, 1), (N, 1, H, W), or whatever broadcasts."""

    def forward(self, x: Tensor, gamma: Tensor | None = None) -> Tensor:
        """X times its gates; with γ (C,), how far they are let in per channel."""
        if torch.jit.is_scripting():
            gate = self._combined(self.gates(x)) * self.scale
            if gamma is not None:
                soft = gamma.view(1, -1, 1, 1)
                gate = soft * gate + (1 - soft)
            return (x * gate).to(x.dtype)
        y = self.fused(x, gamma)
        return self.formula(x, gamma) if y is None else y

    def formula(self, x: Tensor, gamma: Tensor | None = None) -> Tensor:
        """The same without kernels."""
        make = kernels.plus if self.added else kernels.times
        return kernels.gated_map(x, self.gates(x), gamma, make=make, scale=self.scale)

    def _combined(self, gates: list[Tensor]) -> Tensor:
        gate = gates[0]
        for other in gates[1:]:
            gate = gate + other if self.added else gate * other
        return gate

    def fused(
        self, x: Tensor, gamma: Tensor | None = None, pool: nn.Module | None = None
    ) -> Tensor | None:
        """The result from the kernels, γ and a pool included; None where they can't run."""
        if not kernels.takes(x) or not self.has_kernels():
            return None
        how = kernels.permits(self, x, gamma, pool)
        return None if how is None else self.run_kernels(x, gamma, how)

    def start_neutral(self) -> None:
        """Start as the identity by gates that are exactly 1, and learn at full speed at once.

        The last layers start at zero, and the gates are scaled to make up for σ(0) = ½.

        Raises:
            OptionError: with these options no layer of the block can start at zero.
        """
        if not self.last_layers:
            raise OptionError(
                f"{type(self).__name__}, as it was asked for, has no layer that could start at "
                f'zero, so it has no neutral start. Take start="identity".'
            )
        with torch.no_grad():
            for path in self.last_layers:
                for parameter in self.get_submodule(path).parameters():
                    parameter.zero_()
        self.scale = 2.0**self.halvings

    def has_kernels(self) -> bool:
        """Whether there are fused kernels for this class."""
        return "kind" in type(self).__dict__

    def run_kernels(self, x: Tensor, gamma: Tensor | None, pool: tuple[str, bool]) -> Tensor | None:
        """The result from the kernels, with γ and a pool; None where they don't take the layers."""
        return kernels.apply_layers(self.kind, self.layers(), x, gamma, pool, self.scale)

    def layers(self) -> tuple[Any, ...]:
        """The convolutions of the gates, in the order that the kind says."""
        raise NotImplementedError


class MapGate(nn.Module, ABC):
    """A gate that is a map (N, C, H, W), made of parts that are smaller or kept anyway.

    Called, as by who watches it, it returns the map. `GatedByMap` has it made of the parts where
    it is applied, and once more in the backward pass, and keeps no more than the parts.
    """

    #: Whether the parts are made once more, too, so that all that is kept for them is x.
    again = True

    @abstractmethod
    def parts(self, x: Tensor) -> Sequence[Tensor]:
        """What the gate is made of."""

    def kept_parts(self, x: Tensor) -> Sequence[Tensor]:
        """The same, with little kept for the backward pass but x and the parts."""
        return kernels.recomputed(self.parts, x, module=self) if self.again else self.parts(x)

    def how(self) -> Callable[..., Tensor]:
        """From the parts to the gate: a new tensor that broadcasts with x."""
        return kernels.times

    def layer(self) -> nn.Module | None:
        """Whose parameters are used for that; None if none are."""
        return None

    def sharing(self) -> int | None:
        """Groups of channels that share a gate, which is (N, groups, 1, H, W) then."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        gate, groups = self.how()(*self.parts(x)), self.sharing()
        if groups is not None:
            gate = gate.expand_as(x.unflatten(1, (groups, -1))).flatten(1, 2)
        return gate.to(x.dtype)


class GatedByMap(Gated):
    """A block with one gate, `gate`, that is a map."""

    if TYPE_CHECKING:
        gate: MapGate

    def gates(self, x: Tensor) -> list[Tensor]:
        return [self.gate(x)]

    def formula(self, x: Tensor, gamma: Tensor | None = None) -> Tensor:
        gate = self.gate
        if not isinstance(gate, MapGate) or any(map(kernels.is_watched, gate.modules())):
            return super().formula(x, gamma)
        return kernels.gated_map(
            x,
            gate.kept_parts(x),
            gamma,
            make=self.how(),
            module=gate.layer(),
            scale=self.scale,
            groups=gate.sharing(),
        )

    def how(self) -> Callable[..., Tensor]:
        """From the parts to what x is multiplied by: the gate, unless the block says otherwise."""
        return self.gate.how()
