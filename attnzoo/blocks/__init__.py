"""Attention blocks, one family a file. Importing this package registers them all."""

from attnzoo.blocks.local import LocalAttention

__all__ = ["LocalAttention"]
