"""Training one network: data, recipe, loop, and one run from its description to its folder."""

from attnzoo.train.data import (
    DigitsData,
    FolderData,
    ImageData,
    TimmData,
    TorchvisionData,
    open_data,
)
from attnzoo.train.digits import ClutteredDigits
from attnzoo.train.extras import MissingExtraError
from attnzoo.train.loop import FitResult, fit
from attnzoo.train.pictures import PictureOptions
from attnzoo.train.recipe import TrainRecipe
from attnzoo.train.run import train
from attnzoo.train.saved_maps import SavedMap, read_maps
from attnzoo.train.spec import RunResult, RunSpec, Variant
from attnzoo.train.stopping import Interrupted
from attnzoo.train.watch import ProgressWatch, Watch

__all__ = [
    "ClutteredDigits",
    "DigitsData",
    "FitResult",
    "FolderData",
    "ImageData",
    "Interrupted",
    "MissingExtraError",
    "PictureOptions",
    "ProgressWatch",
    "RunResult",
    "RunSpec",
    "SavedMap",
    "TimmData",
    "TorchvisionData",
    "TrainRecipe",
    "Variant",
    "Watch",
    "fit",
    "open_data",
    "read_maps",
    "train",
]
