"""A trained network: opened from its run, tested, used on pictures, looked into, exported."""

from attnzoo.trained.evaluating import Evaluation, evaluate
from attnzoo.trained.exporting import FORMATS, Export, export
from attnzoo.trained.opening import TrainedNetwork, open_network
from attnzoo.trained.overlays import write_maps
from attnzoo.trained.predicting import Prediction, find_pictures, predict, write_predictions

__all__ = [
    "FORMATS",
    "Evaluation",
    "Export",
    "Prediction",
    "TrainedNetwork",
    "evaluate",
    "export",
    "find_pictures",
    "open_network",
    "predict",
    "write_maps",
    "write_predictions",
]
