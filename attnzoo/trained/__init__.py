"""A trained network: opened from its run, tested, used, looked into, exported, shared."""

from attnzoo.trained.evaluating import Evaluation, evaluate
from attnzoo.trained.exporting import FORMATS, Export, export
from attnzoo.trained.looking import Change, Look, changes, deletion, looks, saliency
from attnzoo.trained.opening import TrainedNetwork, open_network
from attnzoo.trained.overlays import write_maps
from attnzoo.trained.predicting import Prediction, find_pictures, predict, write_predictions
from attnzoo.trained.sharing import share

__all__ = [
    "FORMATS",
    "Change",
    "Evaluation",
    "Export",
    "Look",
    "Prediction",
    "TrainedNetwork",
    "changes",
    "deletion",
    "evaluate",
    "export",
    "find_pictures",
    "looks",
    "open_network",
    "predict",
    "saliency",
    "share",
    "write_maps",
    "write_predictions",
]
