"""Attention slots in residual blocks: what structure cannot tell, in one small table.

timm's ResNet blocks have an attribute `se`, None by default, that they call before the addition.
torchvision's have none, so a subclass of each, with the same forward and a slot, stands in: its
class is assigned to the instance, names and keys stay, and `isinstance` still holds.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SLOTS", "Slot"]


@dataclass(frozen=True)
class Slot:
    """Where a class of block takes attention.

    Attributes:
        after: the child whose output the slot attends.
        name: the attribute that holds the attention.
        subclass: import path of the class to assign, empty where the block has the slot itself.
    """

    after: str
    name: str
    subclass: str = ""


#: Exact class → its slot.
SLOTS: dict[str, Slot] = {
    "timm.models.resnet.BasicBlock": Slot("bn2", "se"),
    "timm.models.resnet.Bottleneck": Slot("bn3", "se"),
    "torchvision.models.resnet.BasicBlock": Slot(
        "bn2", "attn", "attnzoo.hosts.slotted.AttendedBasicBlock"
    ),
    "torchvision.models.resnet.Bottleneck": Slot(
        "bn3", "attn", "attnzoo.hosts.slotted.AttendedBottleneck"
    ),
}
