"""Attended networks as files: what was done to them, and their weights."""

from attnzoo.checkpoint.saving import NETWORK, Checkpoint, load, rebuild, save

__all__ = ["NETWORK", "Checkpoint", "load", "rebuild", "save"]
