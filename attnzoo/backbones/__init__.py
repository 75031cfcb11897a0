"""Networks by name, fresh or with trained weights."""

from attnzoo.backbones.building import Built, build_backbone, create_backbone, draft_backbone
from attnzoo.backbones.code import code_digest, digest_of_module
from attnzoo.backbones.head import head_of, replace_head
from attnzoo.backbones.inputs import InputOptions, input_options
from attnzoo.backbones.loading import TrainedWeights
from attnzoo.backbones.naming import find_function, list_backbones
from attnzoo.backbones.recipe import NetworkRecipe
from attnzoo.backbones.sources import is_file, weights_digest

__all__ = [
    "Built",
    "InputOptions",
    "NetworkRecipe",
    "TrainedWeights",
    "build_backbone",
    "code_digest",
    "create_backbone",
    "digest_of_module",
    "draft_backbone",
    "find_function",
    "head_of",
    "input_options",
    "is_file",
    "list_backbones",
    "replace_head",
    "weights_digest",
]
