#!/usr/bin/env bash
# PyTorch 2.15.0, tensors on the meta device.
#
# The first elementwise operation on a meta tensor (x + x, 1 - x, x == 0, a product with `out=`)
# imports torch._dynamo, the compiler, though nothing is compiled; a convolution does not. On the
# CPU none of them does. Whoever counts FLOPs or plans memory by a forward pass on meta pays for
# the import, seconds on a slow machine, in the first call of a process.
#
# Output seen (the last column is whether torch._dynamo is among the modules afterwards):
#   x + x                                      cpu   False
#   x + x                                      meta  True
#   torch.conv2d(x, x)                         meta  False
#   1 - x                                      cpu   False
#   1 - x                                      meta  True
#   x == 0                                     meta  True
#   torch.mul(x, x, out=torch.empty_like(x))   meta  True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" torch==2.15.0 numpy==2.4.6
cat > "$work/ask.py" <<'PY'
import subprocess
import sys

EXPECTED = [
    ("x + x", "cpu", False),
    ("x + x", "meta", True),
    ("torch.conv2d(x, x)", "meta", False),
    ("1 - x", "cpu", False),
    ("1 - x", "meta", True),
    ("x == 0", "meta", True),
    ("torch.mul(x, x, out=torch.empty_like(x))", "meta", True),
]
if len(sys.argv) > 1:
    import torch

    x = torch.ones(1, 1, 2, 2, device=sys.argv[2])
    eval(sys.argv[1])
    print("torch._dynamo" in sys.modules)
    sys.exit()
wrong = 0
for line, device, expected in EXPECTED:
    told = subprocess.run([sys.executable, __file__, line, device], capture_output=True, text=True)
    print(f"{line:42} {device:5} {told.stdout.strip()}")
    wrong += told.stdout.strip() != str(expected)
sys.exit(wrong)
PY
"$work/venv/bin/python" "$work/ask.py"
