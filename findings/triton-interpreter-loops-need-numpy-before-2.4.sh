#!/usr/bin/env bash
# Triton 3.6.0 (the one PyTorch 2.11.0 installs) with NumPy 2.4.6, TRITON_INTERPRET=1.
#
# In the interpreter, by which kernels are tested without a GPU, a loop whose bound is an argument
# of the kernel raises TypeError: Triton turns an array of one element into a Python integer, which
# NumPy deprecated in 1.25 and refuses from 2.4 on. PyTorch 2.11.0 sets no upper bound on NumPy. With
# NumPy 2.3.5 the same loop runs, and so do reductions and loops over a tl.constexpr with either.
# Triton 3.9.0 runs it with NumPy 2.4.6.
#
# Output seen:
#   numpy 2.3.5: constant bound [3.0, 3.0, 3.0, 3.0], bound as argument [3.0, 3.0, 3.0, 3.0]
#   numpy 2.4.6: constant bound [3.0, 3.0, 3.0, 3.0], bound as argument InterpreterError: TypeError('only 0-dimensional arrays can be converted to Python scalars')
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
install() { "$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" "$@"; }
cat > "$work/loops.py" <<'PY'
import numpy
import torch
import triton
import triton.language as tl


@triton.jit
def constant(x, out, count: tl.constexpr, size: tl.constexpr):
    total = tl.zeros((size,), tl.float32)
    for _ in range(count):
        total += tl.load(x + tl.arange(0, size))
    tl.store(out + tl.arange(0, size), total)


@triton.jit
def argument(x, out, count, size: tl.constexpr):
    total = tl.zeros((size,), tl.float32)
    for _ in range(count):
        total += tl.load(x + tl.arange(0, size))
    tl.store(out + tl.arange(0, size), total)


def told(kernel):
    x, out = torch.ones(4), torch.zeros(4)
    try:
        kernel[(1,)](x, out, 3, 4)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return str(out.tolist())


first, second = told(constant), told(argument)
print(f"numpy {numpy.__version__}: constant bound {first}, bound as argument {second}")
assert first == "[3.0, 3.0, 3.0, 3.0]"
refused = "only 0-dimensional arrays can be converted to Python scalars"
if numpy.__version__ == "2.4.6":
    assert refused in second, "it has changed"
else:
    assert second == first
PY
for numpy in 2.3.5 2.4.6; do
  install torch==2.11.0 triton==3.6.0 numpy=="$numpy"
  TRITON_INTERPRET=1 "$work/venv/bin/python" -W ignore "$work/loops.py"
done
