"""Attended networks as files: what was done to them, and their weights."""

from attnzoo.checkpoint.saving import ATTENTION, NETWORK, Checkpoint, load, rebuild, save
from attnzoo.checkpoint.swapping import swap

__all__ = ["ATTENTION", "NETWORK", "Checkpoint", "load", "rebuild", "save", "swap"]
