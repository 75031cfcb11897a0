"""Insertion policies: pure functions from a trace to sites. Importing this registers them all."""

from attnzoo.policies import auto, generic, named

__all__ = ["auto", "generic", "named"]
