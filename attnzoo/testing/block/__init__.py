"""The contract of blocks, as checks."""

from attnzoo.testing.block.check import BLOCK_CHECKS, check_block

__all__ = ["BLOCK_CHECKS", "check_block"]
