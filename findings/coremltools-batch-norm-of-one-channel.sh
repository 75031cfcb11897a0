#!/usr/bin/env bash
# coremltools 9.0 with programs of torch.export, PyTorch 2.15.0.
#
# A map times one number a channel plus one number a channel is made a batch norm, also where the
# map has one channel and is spread over those of the numbers: a spatial gate g softened by a γ for
# each channel, γ·g + (1 − γ). That batch norm has one channel and four scales, and returns one
# channel where the program returned four; the conversion ends without a word. Written as
# 1 − γ·(1 − g), the same stays what it was.
#
# Output seen:
#   four channels, gamma * g + (1 - gamma): conv sigmoid batch_norm, returns (2, 4, 8, 8) for (2, 4, 8, 8)
#   one channel, gamma * g + (1 - gamma): conv sigmoid batch_norm, returns (2, 1, 8, 8) for (2, 4, 8, 8)
#   one channel, 1 - gamma * (1 - g): conv sigmoid sub mul sub, returns (2, 4, 8, 8) for (2, 4, 8, 8)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" \
  torch==2.15.0 numpy==2.4.6 coremltools==9.0
cat > "$work/scale.py" <<'PY'
import coremltools as ct
import torch
from torch import nn


class Gate(nn.Module):
    """A gate made by a convolution, and what `soften` makes of it for four channels."""

    def __init__(self, channels, soften):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.soften = soften
        self.register_buffer("gamma", torch.linspace(0.1, 0.9, 4).view(1, 4, 1, 1))

    def forward(self, x):
        return self.soften(torch.sigmoid(self.conv(x)), self.gamma)


for title, channels, soften, expected in (
    ("four channels, gamma * g + (1 - gamma)", 4, lambda g, c: c * g + (1 - c), (2, 4, 8, 8)),
    ("one channel, gamma * g + (1 - gamma)", 1, lambda g, c: c * g + (1 - c), (2, 1, 8, 8)),
    ("one channel, 1 - gamma * (1 - g)", 1, lambda g, c: 1 - c * (1 - g), (2, 4, 8, 8)),
):
    x, model = torch.randn(2, 3, 8, 8), Gate(channels, soften).eval()
    program = torch.export.export(model, (x,)).run_decompositions({})
    converted = ct.convert(program, inputs=[ct.TensorType(name="x", shape=x.shape)])
    main = converted._mil_program.functions["main"]
    kinds = " ".join(op.op_type for op in main.operations if op.op_type not in ("const", "cast"))
    returned, wanted = tuple(main.outputs[0].shape), tuple(model(x).shape)
    print(f"{title}: {kinds}, returns {returned} for {wanted}")
    assert wanted == (2, 4, 8, 8)
    assert returned == expected, expected
    assert ("batch_norm" in kinds) == ("(1 - gamma)" in title)
PY
"$work/venv/bin/python" -W ignore "$work/scale.py" 2>/dev/null
