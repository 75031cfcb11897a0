"""Every policy tried on every convolutional network of torchvision and timm, a row for each."""

from attnzoo.sweep.check import POLICIES, check_network
from attnzoo.sweep.networks import Network, Trial, kind_of
from attnzoo.sweep.run import sweep
from attnzoo.sweep.table import Row, read_rows, summary, write_rows

__all__ = [
    "POLICIES",
    "Network",
    "Row",
    "Trial",
    "check_network",
    "kind_of",
    "read_rows",
    "summary",
    "sweep",
    "write_rows",
]
