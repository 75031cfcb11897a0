#!/usr/bin/env bash
# OpenCV 5.0.0 (opencv-python-headless 5.0.0.93), cv2.dnn, an ONNX file of PyTorch 2.15.0's exporter.
#
# A squeeze-and-excitation gate, x · hardsigmoid(t) with t of shape (N, C, 1, 1), is read as
# hardswish(t): the gate's own input is multiplied and not x. No error; the result has lost the
# feature map, (1, 8, 1, 1) in place of (1, 8, 6, 6). ONNX Runtime computes the same file right.
# Written as clip(t + 3, 0, 6) / 6 the gate is read as it is meant.
#
# Output seen:
#   nodes: ReduceMean Conv HardSigmoid Mul
#   ONNX Runtime 1.32.0: (1, 8, 6, 6), off by less than 1e-5
#   OpenCV 5.0.0: (1, 8, 1, 1), and these are hardswish(t)
#   OpenCV 5.0.0, the gate as a clip: (1, 8, 6, 6), off by less than 1e-5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" \
  torch==2.15.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 \
  opencv-python-headless==5.0.0.93
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PY'
import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F


class Gate(nn.Module):
    def __init__(self, as_clip):
        super().__init__()
        self.fc, self.as_clip = nn.Conv2d(8, 8, 1), as_clip

    def logits(self, x):
        return self.fc(x.mean((2, 3), keepdim=True))

    def forward(self, x):
        t = self.logits(x)
        return x * ((t + 3).clamp(0, 6) / 6 if self.as_clip else F.hardsigmoid(t))


def read(path, x):
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(x.numpy())
    return net.forward()


torch.manual_seed(0)
gate, x = Gate(as_clip=False).eval(), torch.randn(1, 8, 6, 6)
with torch.no_grad():
    right, swished = gate(x).numpy(), F.hardswish(gate.logits(x)).numpy()
torch.onnx.export(gate, (x,), "gate.onnx", dynamo=True, verbose=False)
print("nodes:", *[node.op_type for node in onnx.load("gate.onnx").graph.node])

session = onnxruntime.InferenceSession("gate.onnx")
y = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
assert y.shape == right.shape and np.abs(y - right).max() < 1e-5
print(f"ONNX Runtime {onnxruntime.__version__}: {y.shape}, off by less than 1e-5")

y = read("gate.onnx", x)
assert y.shape == (1, 8, 1, 1) and np.abs(y - swished).max() < 1e-5, (y.shape, y.ravel()[:3])
print(f"OpenCV {cv2.__version__}: {y.shape}, and these are hardswish(t)")

clipped = Gate(as_clip=True).eval()
clipped.load_state_dict(gate.state_dict())
torch.onnx.export(clipped, (x,), "clip.onnx", dynamo=True, verbose=False)
y = read("clip.onnx", x)
assert y.shape == right.shape and np.abs(y - right).max() < 1e-5
print(f"OpenCV {cv2.__version__}, the gate as a clip: {y.shape}, off by less than 1e-5")
PY
