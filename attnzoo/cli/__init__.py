"""The command line, `attnzoo`. Torch and all that builds on it is imported when a command runs."""

from attnzoo.cli.app import main

__all__ = ["main"]
