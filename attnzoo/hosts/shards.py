"""Tensors of which each process has a part, as FSDP2 leaves them: made whole, and cut again."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["cut_like", "is_sharded", "whole"]


def is_sharded(tensor: Any) -> bool:
    """Whether each process has a part of it."""
    return hasattr(tensor, "full_tensor")


def whole(value: Any) -> Any:
    """What the parts of all processes make together, outside of any graph; else the value itself.

    Of a sharded tensor, all processes have to call this.
    """
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    return value.full_tensor() if is_sharded(value) else value


def cut_like(tensor: Any, own: Any) -> Any:
    """The part of it that this process has, where `own` is such a part; else the tensor itself."""
    if not is_sharded(own):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh = own.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, own.placements)
