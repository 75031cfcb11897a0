"""A backbone's name → a network to look at → a plan for it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attnzoo.cli.console import working
from attnzoo.cli.options import Attention, Network
from attnzoo.errors import AttnzooError, TraceError

if TYPE_CHECKING:
    from torch import nn

    from attnzoo.surgery import Plan

__all__ = ["build", "make_plan"]

ADVICE = (
    "Say what an image is: --input-size 3x64x64. For a network that takes something else, "
    "attnzoo.plan(model, example=…) in Python."
)


def build(backbone: str, options: Mapping[str, Any]) -> nn.Module:
    """The network without memory where it can be built so, which is also faster; else a usual one.

    Raises:
        UnknownNameError, OptionError: see `attnzoo.create_backbone`.
    """
    from attnzoo.backbones import draft_backbone

    with explained(backbone):
        return draft_backbone(backbone, **options)


@contextmanager
def explained(owner: str) -> Generator[None]:
    """What a network of the user's raises, in a line and as an error of ours."""
    try:
        yield
    except TraceError as error:
        if not error.advice:  # the images are not what it is about
            raise
        raise TraceError(error.found, ADVICE) from error
    except AttnzooError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit):
            raise AttnzooError(f"{owner} ends the program, by sys.exit({error.code!r}).") from error
        raise AttnzooError(
            f"{owner} raises {type(error).__name__}: {error}\nWith --debug before the command, "
            f"the traceback is shown."
        ) from error


def make_plan(backbone: str, attention: Attention, network: Network) -> Plan:
    """What the flags ask for, resolved on the network they name."""
    # Read before the wait: a wrong flag is told at once.
    policies, block_options = attention.policies, attention.block_options
    example, options = network.example, network.options
    with working(f"Following {backbone}"):
        from attnzoo.api import plan

        model = build(backbone, options)
        with explained(f"{backbone} with what is asked for"):
            return plan(
                model,
                policies,
                "local" if attention.block is None else attention.block,
                start=attention.start or "identity",
                example=example,
                strict=network.strict,
                **block_options,
            )
