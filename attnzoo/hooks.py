"""The forward hooks of hosts that hold their attention as a child.

Annotations are evaluated here, not postponed: TorchScript compiles a hook from its source and
asks for exactly these types. The functions are importable, so hosts can be pickled.
"""

from torch import Tensor, nn

__all__ = ["attend_input", "attend_output"]


def attend_output(self: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    """Forward hook: attention on what the host returns."""
    return self.attn_out(output)  # ty: ignore[not-callable]


def attend_input(self: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Forward pre-hook: attention on what the host is given."""
    return (self.attn_in(args[0]),)  # ty: ignore[not-callable]
