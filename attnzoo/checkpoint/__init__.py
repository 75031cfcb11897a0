"""Attended networks as files: what was done to them, and their weights."""

from attnzoo.checkpoint.saving import NETWORK, Checkpoint, load, rebuild, save
from attnzoo.checkpoint.swapping import swap

__all__ = ["NETWORK", "Checkpoint", "load", "rebuild", "save", "swap"]
