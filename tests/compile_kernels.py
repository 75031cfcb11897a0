"""Compile the kernels for an H100 on a machine without one; prints a line for each.

Run by `test_kernels.py` in a process of its own, where Triton doesn't interpret.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attnzoo.kernels import launch, triton_backward, triton_forward

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.uint8: "*u8"}
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
    for module in (triton_forward, triton_backward):
        for name in module.__all__:
            kernel = getattr(module, name)
            setattr(module, name, Compiled(kernel))
    channels, hidden = 64, 8
    sizes = [(hidden, channels), (hidden,), (channels, hidden), (channels,)]
    sizes += [(hidden, channels), (hidden,), (1, hidden), (1,)]
    x = torch.empty(2, channels, 56, 56, dtype=torch.bfloat16)
    weights = [torch.empty(size, dtype=torch.bfloat16) for size in sizes]
    gamma = torch.empty(channels)
    how = ("local", "max")
    y, *kept = launch.forward(x, weights, gamma, *how, False, 2, True)
    launch.backward(torch.empty_like(y), x, weights, gamma, *kept, *how, 2)


if __name__ == "__main__":
    main()
