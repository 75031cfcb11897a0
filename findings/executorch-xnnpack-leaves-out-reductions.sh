#!/usr/bin/env bash
# ExecuTorch 1.5.1 with its XNNPACK partitioner, PyTorch 2.15.0.
#
# Of the means, sums and maxima that attention takes of a map, XNNPACK gets one: the mean over H and
# W, with both axes kept. Without them kept, over one axis, over the channels, as a sum, or as a
# maximum by amax, the operation runs outside, and the program around it is cut in two. A maximum
# over H and W by max_pool2d of the whole map goes in. The exporter says nothing.
#
# Output seen:
#   mean over H and W, kept: 1 piece
#   mean over H and W, not kept: 2 pieces, outside: aten.mean.dim
#   mean over channels: 2 pieces, outside: aten.mean.dim
#   mean over W: 2 pieces, outside: aten.mean.dim
#   sum over H and W: 2 pieces, outside: aten.sum.dim_IntList
#   maximum over H and W, amax: 2 pieces, outside: aten.amax.default
#   maximum over channels, amax: 2 pieces, outside: aten.amax.default
#   maximum over H and W, max_pool2d: 1 piece
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" \
  torch==2.15.0 numpy==2.4.6 executorch==1.5.1 torchao==0.18.0
cat > "$work/pieces.py" <<'PY'
import re

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import nn
from torch.nn import functional as F


class Around(nn.Module):
    """A convolution, a reduction of its map, and the map times that."""

    def __init__(self, reduce):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.reduce = reduce

    def forward(self, x):
        x = self.conv(x)
        return x * self.reduce(x)


def pieces(reduce):
    program = torch.export.export(Around(reduce).eval(), (torch.randn(1, 8, 16, 16),))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    targets = [str(n.target) for n in lowered.exported_program().graph.nodes if n.op == "call_function"]
    outside = sorted({found[0] for t in targets for found in [re.findall(r"aten\.\w+\.\w+", t)] if found})
    return sum("executorch_call_delegate" in t for t in targets), outside


for title, reduce, expected in (
    ("mean over H and W, kept", lambda x: x.mean((2, 3), keepdim=True), (1, [])),
    ("mean over H and W, not kept", lambda x: x.mean((2, 3))[..., None, None], (2, ["aten.mean.dim"])),
    ("mean over channels", lambda x: x.mean(1, keepdim=True), (2, ["aten.mean.dim"])),
    ("mean over W", lambda x: x.mean(3, keepdim=True), (2, ["aten.mean.dim"])),
    ("sum over H and W", lambda x: x.sum((2, 3), keepdim=True), (2, ["aten.sum.dim_IntList"])),
    ("maximum over H and W, amax", lambda x: x.amax((2, 3), keepdim=True), (2, ["aten.amax.default"])),
    ("maximum over channels, amax", lambda x: x.amax(1, keepdim=True), (2, ["aten.amax.default"])),
    ("maximum over H and W, max_pool2d", lambda x: F.max_pool2d(x, 16), (1, [])),
):
    count, outside = found = pieces(reduce)
    told = f", outside: {', '.join(outside)}" if outside else ""
    print(f"{title}: {count} piece{'s' * (count > 1)}{told}")
    assert found == expected, expected
PY
"$work/venv/bin/python" -W ignore "$work/pieces.py" 2>/dev/null
