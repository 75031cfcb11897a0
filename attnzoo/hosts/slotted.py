"""torchvision's residual blocks with a slot for attention. Imported only when a model has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

__all__ = ["AttendedBasicBlock", "AttendedBottleneck"]


class AttendedBasicBlock(BasicBlock):
    """torchvision's BasicBlock with attention on the branch, before the addition."""

    if TYPE_CHECKING:
        attn: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.attn(self.bn2(self.conv2(out)))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class AttendedBottleneck(Bottleneck):
    """torchvision's Bottleneck with attention on the branch, before the addition."""

    if TYPE_CHECKING:
        attn: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.attn(self.bn3(self.conv3(out)))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)
