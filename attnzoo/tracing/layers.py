"""What the commonest layers ask of torch, known without running them.

That saves the way through the layer, its functional form and torch's dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _global
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

__all__ = ["directly", "operation"]

aten = torch.ops.aten

#: An operation and its arguments.
Asked = tuple[Any, tuple[Any, ...]]


def directly(mode: TorchDispatchMode) -> bool:
    """Whether a mode would be the only one to see, and change, what a layer asks of torch."""
    return (
        _get_current_dispatch_mode() is mode
        and not torch._C._is_any_autocast_enabled()
        and not torch._C._len_torch_function_stack()
        and not _global._has_any_global_hook()
    )


def operation(layer: nn.Module, x: Tensor) -> Asked | None:
    """What a layer asks of torch for a map; None if it has to be run to know."""
    kind = type(layer)
    known = _KNOWN.get(kind)
    if known is None or kind.forward is not known[0] or type(x) is not Tensor or x.ndim != 4:
        return None
    return known[1](layer, x)


def _convolution(conv: Any, x: Tensor) -> Asked | None:
    weight, padding = conv.weight, conv.padding
    plain = conv.padding_mode == "zeros" and not isinstance(padding, str)
    if not plain or x.shape[1] != conv.in_channels or x.dtype != weight.dtype:
        return None
    sizes = list(conv.stride), list(padding), list(conv.dilation)
    args = (x, weight, conv.bias, *sizes, False, [0, 0], conv.groups)
    return aten.convolution.default, args


def _batch_norm(norm: Any, x: Tensor) -> Asked | None:
    mean, var = norm.running_mean, norm.running_var
    plain = mean is not None and norm.affine and not norm.training
    if not plain or x.shape[1] != norm.num_features or x.dtype != mean.dtype:
        return None
    momentum = 0.0 if norm.momentum is None else norm.momentum
    args = (x, norm.weight, norm.bias, mean, var, False, momentum, norm.eps)
    return aten.native_batch_norm.default, args


def _relu(relu: Any, x: Tensor) -> Asked:
    return aten.relu_.default if relu.inplace else aten.relu.default, (x,)


def _silu(silu: Any, x: Tensor) -> Asked:
    return aten.silu_.default if silu.inplace else aten.silu.default, (x,)


#: Layer → its forward pass, which a program may have replaced, and what that asks of torch.
_KNOWN: dict[type[nn.Module], tuple[Callable[..., Any], Callable[[Any, Tensor], Asked | None]]] = {
    nn.Conv2d: (nn.Conv2d.forward, _convolution),
    nn.BatchNorm2d: (nn.BatchNorm2d.forward, _batch_norm),
    nn.ReLU: (nn.ReLU.forward, _relu),
    nn.SiLU: (nn.SiLU.forward, _silu),
}
