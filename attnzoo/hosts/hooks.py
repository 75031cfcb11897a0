"""The forward hooks of hosts that hold their attention as a child.

Annotations are evaluated here, not postponed: TorchScript compiles a hook from its source and
asks for exactly these types. The functions are importable, so hosts can be pickled.
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["attend_first_input", "attend_input", "attend_output", "input_hook"]


def attend_output(self: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    """Forward hook: attention on what the host returns."""
    return self.attn_out(output)  # ty: ignore[not-callable]


def attend_input(self: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Forward pre-hook: attention on what the host is given."""
    return (self.attn_in(args[0]),)  # ty: ignore[not-callable]


def attend_first_input(self: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook of a host that takes more than a feature map: the rest is handed on."""
    return (self.attn_in(args[0]), *args[1:])  # ty: ignore[not-callable]


def input_hook(host: nn.Module) -> Callable[..., Any]:
    """The pre-hook for a host: the one that TorchScript can compile if it takes one argument."""
    taken = inspect.signature(host.forward).parameters.values()
    alone = [parameter.kind for parameter in taken] == [inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return attend_input if alone else attend_first_input
