"""A backbone's name → a network to look at → a plan for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnzoo.cli.console import working
from attnzoo.cli.options import Attention, Network

if TYPE_CHECKING:
    from torch import nn

    from attnzoo.surgery import Plan

__all__ = ["build", "make_plan"]


def build(backbone: str, options: Mapping[str, Any]) -> nn.Module:
    """The network without memory where it can be built so, which is also faster; else a usual one.

    Raises:
        UnknownNameError, OptionError: see `attnzoo.create_backbone`.
    """
    from attnzoo.backbones import draft_backbone

    return draft_backbone(backbone, **options)


def make_plan(backbone: str, attention: Attention, network: Network) -> Plan:
    """What the flags ask for, resolved on the network they name."""
    # Read before the wait: a wrong flag is told at once.
    policies, block_options = attention.policies, attention.block_options
    example, options = network.example, network.options
    with working(f"Following {backbone}"):
        from attnzoo.api import plan

        return plan(
            build(backbone, options),
            policies,
            attention.block or "local",
            start=attention.start or "identity",
            example=example,
            **block_options,
        )
