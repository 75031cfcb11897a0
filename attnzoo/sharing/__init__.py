"""A network with attention as a folder for others: weights, recipe, model card."""

from attnzoo.sharing.folder import from_pretrained, save_pretrained
from attnzoo.sharing.hub import push_to_hub

__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]
