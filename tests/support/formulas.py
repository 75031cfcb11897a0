"""What the references of the blocks are written with: random blocks, and layers as formulas."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnzoo

__all__ = ["Weights", "mean_hw", "per_channel", "randomised", "standardised"]


def randomised(name: str, channels: int, **options: object) -> nn.Module:
    """The block in float64, its parameters and running statistics random."""
    block = attnzoo.create_block(name, channels, **options).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0, 0.5)
        for path, buffer in block.named_buffers():
            if path.endswith("running_mean"):
                buffer.normal_()
            elif path.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return block


class Weights:
    """The tensors of a block, by path, and the layers they belong to, as plain formulas."""

    def __init__(self, block: nn.Module) -> None:
        self.state = {key: value.clone() for key, value in block.state_dict().items()}
        self.training = block.training

    def __getitem__(self, path: str) -> Tensor:
        return self.state[path]

    def conv(self, path: str, x: Tensor, **geometry: object) -> Tensor:
        return F.conv2d(x, self[f"{path}.weight"], self.state.get(f"{path}.bias"), **geometry)

    def dense(self, path: str, x: Tensor) -> Tensor:
        """A 1×1 convolution at every position."""
        y = torch.einsum("oc,nchw->nohw", self[f"{path}.weight"][:, :, 0, 0], x)
        bias = self.state.get(f"{path}.bias")
        return y if bias is None else y + bias[:, None, None]

    def batch_norm(self, path: str, x: Tensor) -> Tensor:
        mean, variance = self[f"{path}.running_mean"], self[f"{path}.running_var"]
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        standard = (x - per_channel(mean)) / (per_channel(variance) + 1e-5).sqrt()
        return standard * per_channel(self[f"{path}.weight"]) + per_channel(self[f"{path}.bias"])


def per_channel(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)


def mean_hw(x: Tensor) -> Tensor:
    return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


def standardised(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Zero mean and unit variance over `dims`, with the ε of group normalisation."""
    centred = x - x.mean(dims, keepdim=True)
    return centred / (centred.square().mean(dims, keepdim=True) + 1e-5).sqrt()
