#!/usr/bin/env bash
# PyTorch 2.15.0, torch.fx.GraphModule.
#
# A forward hook registered on a GraphModule (what symbolic_trace, torchvision's feature extractors
# and FX quantisation return) is gone in every copy: copy.deepcopy, pickle, torch.save. No warning;
# the copy, such as the one that keeps a moving average, computes something else. Children of the
# GraphModule keep their hooks, and so does any other module.
#
# Output seen:
#   nn.Module, deepcopy: hooks 1 → 1, same output
#   GraphModule, deepcopy: hooks 1 → 0, another output
#   GraphModule, pickle: hooks 1 → 0, another output
#   hook on a child of a GraphModule, deepcopy: same output
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" torch==2.15.0 numpy==2.4.6
cat > "$work/hooked.py" <<'PY'
import copy
import pickle

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x + torch.relu(self.conv(x))


def doubled(module, args, output):
    return 2 * output


def told(title, module, copied, x):
    before, after = len(module._forward_hooks), len(copied._forward_hooks)
    same = torch.equal(module(x), copied(x))
    print(f"{title}: hooks {before} → {after}, {'same' if same else 'another'} output")
    return before, after, same


def main():
    x = torch.randn(1, 4, 5, 5)
    plain, traced = Block(), torch.fx.symbolic_trace(Block())
    for module in (plain, traced):
        module.register_forward_hook(doubled)
    assert told("nn.Module, deepcopy", plain, copy.deepcopy(plain), x) == (1, 1, True)
    assert told("GraphModule, deepcopy", traced, copy.deepcopy(traced), x) == (1, 0, False)
    again = pickle.loads(pickle.dumps(traced))
    assert told("GraphModule, pickle", traced, again, x) == (1, 0, False)

    inside = torch.fx.symbolic_trace(Block())
    inside.conv.register_forward_hook(doubled)
    assert torch.equal(inside(x), copy.deepcopy(inside)(x))
    print("hook on a child of a GraphModule, deepcopy: same output")


if __name__ == "__main__":
    import hooked  # so that pickle finds the classes by a name

    hooked.main()
PY
cd "$work" && "$work/venv/bin/python" -W ignore hooked.py
