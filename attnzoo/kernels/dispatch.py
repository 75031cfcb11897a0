"""Whether the fused kernels can run in a block's place.

Where they can't, the caller computes the plain formula; nothing is said. They run on
CUDA, eager or under `torch.compile`, with gradients or without. They leave to the plain formula
what they would change or hide: exports and traces, the transforms of `torch.func` and forward-mode
differentiation, submodules that are watched by hooks (so attention maps can be captured), replaced,
parametrised, quantised or compiled by themselves, and maps of other dtypes.

The environment variable `ATTNZOO_FUSED=0`, read when attnzoo is imported, switches them off.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

__all__ = ["fit", "is_exported", "is_recorded", "is_watched", "joinable", "permits", "takes"]

#: Off by the environment, or without triton.
ENABLED = (
    os.environ.get("ATTNZOO_FUSED", "1") != "0" and importlib.util.find_spec("triton") is not None
)
#: The tests add the CPU, where Triton's interpreter runs the kernels.
DEVICES = {"cuda"}
DTYPES = {torch.float32, torch.bfloat16, torch.float16}
#: Submodules of blocks, besides those of the block's own file.
KNOWN = (
    nn.AdaptiveAvgPool2d,
    nn.BatchNorm2d,
    nn.Conv1d,
    nn.Conv2d,
    nn.ReLU,
    nn.Sequential,
    nn.Sigmoid,
    nn.SyncBatchNorm,
)


def takes(x: Tensor) -> bool:
    """Whether the kernels take this map, here and now."""
    return (
        ENABLED
        and isinstance(x, Tensor)  # not the proxy of torch.fx
        and x.device.type in DEVICES
        and x.dtype in DTYPES
        and x.ndim == 4
        and x.numel() > 0
        and x.shape[1] * x.shape[2] * x.shape[3] < 2**31
        and not is_traceable_wrapper_subclass(x)
        and not _is_traced()
        and _is_capable(x.device)
    )


def permits(
    block: nn.Module, x: Tensor, gamma: Tensor | None, pool: nn.Module | None
) -> tuple[str, bool] | None:
    """How the kernels are to pool, if they can run in the block's place; None if they can't.

    Args:
        block: whose submodules must be as they were built.
        x: one that they take.
        gamma: (C,), or None for `y = block(x)`.
        pool: one that `joinable` accepts, or None, which gives `("", False)`.
    """
    if not _is_as_built(block) or not fit(x, [gamma]):
        return None
    return ("", False) if pool is None else joinable(pool)


def joinable(pool: nn.Module) -> tuple[str, bool] | None:
    """`("max" or "mean", ceil_mode)` of a 2×2 pool of stride 2 that nobody watches, else None."""
    if type(pool) is nn.MaxPool2d:
        plain = _pair(pool.dilation) == (1, 1) and not pool.return_indices
    elif type(pool) is nn.AvgPool2d:
        plain = pool.divisor_override is None
    else:
        return None
    stride = pool.kernel_size if pool.stride is None else pool.stride
    same = _pair(pool.kernel_size) == _pair(stride) == (2, 2) and _pair(pool.padding) == (0, 0)
    if not (plain and same) or is_watched(pool) or "forward" in pool.__dict__:
        return None
    return "max" if type(pool) is nn.MaxPool2d else "mean", bool(pool.ceil_mode)


def is_watched(module: nn.Module) -> bool:
    """Whether a hook looks at what the module takes, returns, or gets as a gradient."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _is_as_built(block: nn.Module) -> bool:
    """No hook anywhere on it, and no part replaced by one of another class."""
    return not (
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    ) and all(
        (type(module) in KNOWN or type(module).__module__ == type(block).__module__)
        and not is_watched(module)
        and "forward" not in module.__dict__
        and module._compiled_call_impl is None
        for module in block.modules()
    )


def fit(x: Tensor, weights: Sequence[Tensor | None]) -> bool:
    """Whether the weights are where x is, and of its dtype except under autocast."""
    mixed = torch.is_autocast_enabled(x.device.type)
    return all(
        weight is None
        or (
            weight.device == x.device
            and (weight.dtype == x.dtype or (mixed and weight.dtype in DTYPES))
            and not is_traceable_wrapper_subclass(weight)
        )
        for weight in weights
    )


def is_exported(x: object) -> bool:
    """Whether a program is made of what is computed, to run elsewhere."""
    # Not torch.compiler.is_exporting(), which in torch 2.11 is true under torch.compile as well.
    return (
        not isinstance(x, Tensor)  # the proxy of torch.fx
        or torch.compiler._is_exporting_flag
        or torch.jit.is_tracing()
    )


def is_recorded(*values: object) -> bool:
    """Whether an operation that is differentiated by hand would be in the way.

    That is so for compilers, exporters, the transforms of `torch.func`, forward-mode
    differentiation, and tensors that are made of other tensors.
    """
    return (
        torch.compiler.is_compiling()
        or _is_traced()
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None
        or not isinstance(values[0], Tensor)
        or any(isinstance(v, Tensor) and is_traceable_wrapper_subclass(v) for v in values)
    )


def _is_traced() -> bool:
    """Whether something records or transforms what is computed, which an operator would stop."""
    if torch.compiler._is_exporting_flag or torch.jit.is_tracing():
        return True
    if torch.compiler.is_compiling():
        return False
    return (
        torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    )


def _is_capable(device: torch.device) -> bool:
    """NVIDIA's, from Ampere on: older ones have no bfloat16, others were never tried."""
    if device.type != "cuda":
        return True
    known = torch.version.cuda is not None and torch.cuda.is_available()
    return known and torch.cuda.get_device_capability(device) >= (8, 0)


# What torch.compiler.assume_constant_result sets, without its import of the whole compiler.
_is_capable.__dict__["_dynamo_marked_constant"] = True
