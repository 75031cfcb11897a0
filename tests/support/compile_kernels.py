"""Compile the kernels for an H100 on a machine without one; prints a line for each.

Run by `test_launch.py` in a process of its own, where Triton doesn't interpret.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attnzoo.kernels import (
    launch,
    launch_energy,
    launch_gates,
    triton_backward,
    triton_columns,
    triton_energy,
    triton_forward,
    triton_planes,
)

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}
TARGET = GPUTarget("cuda", 90, 32)


class Compiled:
    """In a kernel's place: compiles it for what it is called with, and doesn't run it."""

    def __init__(self, kernel: triton.runtime.JITFunction) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.compile

    def compile(self, *args: object, num_warps: int = 4, **kwargs: object) -> None:
        given = dict(zip(self.kernel.arg_names, args, strict=False)) | kwargs
        signature, constants, attributes = {}, {}, {}
        for index, parameter in enumerate(self.kernel.params):
            value = given[parameter.name]
            if isinstance(value, torch.Tensor):
                signature[parameter.name] = TYPES[value.dtype]
                attributes[index,] = [["tt.divisibility", 16]]
            elif parameter.do_not_specialize:
                signature[parameter.name] = "i32"
            elif parameter.is_constexpr or value is None or value == 1:
                signature[parameter.name] = "constexpr"
                constants[index,] = value
            else:
                signature[parameter.name] = "i32"
                if value % 16 == 0:
                    attributes[index,] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, signature, constants, attributes)
        done = triton.compile(source, target=TARGET, options={"num_warps": num_warps})
        assert done.metadata.shared <= 227 * 1024
        print(self.kernel.__name__, len(done.asm["cubin"]), "bytes", flush=True)


def main() -> None:
    for module in (triton_forward, triton_backward, triton_planes, triton_energy, triton_columns):
        for name in module.__all__:
            setattr(module, name, Compiled(getattr(module, name)))
    x = torch.empty(2, 64, 56, 56, dtype=torch.bfloat16)
    last = x.contiguous(memory_format=torch.channels_last)
    gamma = torch.empty(64)
    compile_gated("local", "max", x, gamma)
    compile_gated("se", "", last, None)
    compile_energy("max", x, gamma)
    compile_energy("", last, None)
    compile_gates("max", x, torch.empty(2, 64, 1, 1, dtype=x.dtype), gamma)
    compile_gates("", last, None, None)


def compile_gated(kind: str, pool: str, x: torch.Tensor, gamma: torch.Tensor | None) -> None:
    channels, hidden = x.shape[1], 8
    sizes = [(hidden, channels), (hidden,), (channels, hidden), (channels,)]
    if kind == "local":
        sizes += [(hidden, channels), (hidden,), (1, hidden), (1,)]
    weights = [torch.empty(size, dtype=x.dtype) for size in sizes]
    y, *kept = launch.forward(x, weights, gamma, kind, pool, False, 2, True)
    launch.backward(torch.empty_like(y), x, weights, gamma, *kept, kind, pool, 2)


def compile_energy(pool: str, x: torch.Tensor, gamma: torch.Tensor | None) -> None:
    y, *kept = launch_energy.forward(x, gamma, 1e-4, pool, False, 2, True)
    launch_energy.backward(torch.empty_like(y), x, gamma, *kept, pool, 2)


def compile_gates(
    pool: str, x: torch.Tensor, channel: torch.Tensor | None, gamma: torch.Tensor | None
) -> None:
    """With a channel gate as of `cbam`, without one as of `spatial`."""
    if channel is not None:
        mean, maximum, often = launch_gates.planes(x)
        launch_gates.planes_backward(x, mean, maximum, x, maximum, often)
    statistics, often = launch_gates.pixels(x, channel)
    launch_gates.pixels_backward(x, statistics, x, channel, statistics, often)
    gates = (channel, statistics[:, :1])
    y, codes = launch_gates.gate_maps(x, *gates, gamma, pool, False, True)
    launch_gates.gate_maps_backward(y, x, *gates, gamma, codes, pool)


if __name__ == "__main__":
    main()
