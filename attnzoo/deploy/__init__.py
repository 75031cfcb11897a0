"""A network as a file that other programs run, checked beside the model."""

from attnzoo.deploy.exporting import Export, export
from attnzoo.deploy.formats import FORMATS, SUFFIXES, Format

__all__ = ["FORMATS", "SUFFIXES", "Export", "Format", "export"]
