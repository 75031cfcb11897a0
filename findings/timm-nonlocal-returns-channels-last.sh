#!/usr/bin/env bash
# timm 1.0.31, timm.layers.NonLocalAttn (create_attn("nl", …)), PyTorch 2.15.0.
#
# Given a map in PyTorch's usual layout, the layer returns one whose memory is channels last, though
# its values are those that it was given at the start, when its last norm is zero. The convolution
# behind it then takes another path and rounds otherwise, so putting a layer that does nothing into
# a network changes the network's outputs in the last bits. timm's other attention layers (se, eca,
# cbam, gc, coord) hand on the layout that they get.
#
# Output seen:
#   se, eca, cbam, gc, coord: contiguous in, contiguous out
#   nl: contiguous in, channels last out; values equal to its input: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" \
  torch==2.15.0 torchvision==0.29.2 timm==1.0.31
"$work/venv/bin/python" -W ignore - <<'PY'
import torch
from timm.layers import create_attn

x = torch.randn(2, 32, 16, 24)
names = ("se", "eca", "cbam", "gc", "coord")
for name in names:
    assert create_attn(name, 32).eval()(x).is_contiguous(), name
print(f"{', '.join(names)}: contiguous in, contiguous out")

y = create_attn("nl", 32).eval()(x)
assert not y.is_contiguous() and y.is_contiguous(memory_format=torch.channels_last)
assert torch.equal(y, x)
print(f"nl: contiguous in, channels last out; values equal to its input: {torch.equal(y, x)}")
PY
