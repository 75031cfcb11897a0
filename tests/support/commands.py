"""What the tests of the command line look at, and the networks that they train."""

from __future__ import annotations

VGG = "torchvision/vgg11"

#: A module with a network of three layers, and where it is imported from.
MODULE = """
from torch import nn

def build(num_classes: int = 10, width: int = 8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=4), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )
"""
NETWORK = "networks_of_cli_study_tests:build"
DATA = {"name": "cluttered-digits", "size": 16, "train": 16, "test": 8}
#: Flags with which it trains in a second.
QUICK = (
    *("--size", "16", "--data-option", "train=16", "--data-option", "test=8"),
    *("--epochs", "1", "--batch-size", "8"),
)


def row(table: str, first: str) -> list[str]:
    """The words of the line that starts with these words."""
    words = first.split()
    lines = map(str.split, table.splitlines())
    return next(line for line in lines if line[: len(words)] == words)
