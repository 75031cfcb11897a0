"""attnzoo: attention for any CNN, in one line, without breaking what the network knows."""

from attnzoo import blocks as blocks
from attnzoo.registry import create_block, list_blocks, register_block

__version__ = "0.1.0"
__all__ = ["create_block", "list_blocks", "register_block"]
