#!/usr/bin/env bash
# PyTorch 2.15.0, torch.func.functional_call.
#
# "Functional" says that the module stays as it is. One that holds a layer under two names, as
# networks with a shared head or a list of their stages do, does not: after the call the layer's
# parameters are the tensors that were handed in, plain tensors which no optimizer has, and
# `parameters()` of the layer gives those. Nothing is raised, and the result of the call is right.
# With tie_weights=False it stays as it is; a weight that two different layers have (a tied one) is
# then only replaced in the layer whose name was given.
#
# Output seen:
#   one name: parameter kept
#   two names: parameter lost, a plain Tensor in its place
#   two names, tie_weights=False: parameter kept
#   tied weight of two layers: parameter kept, result of the given weight
#   tied weight, tie_weights=False: parameter kept, result of both weights
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" torch==2.15.0 numpy==2.4.6
cat > "$work/shared.py" <<'PY'
import torch
from torch import nn


class Stages(nn.Module):
    """A layer, and a list of layers that holds it again."""

    def __init__(self, again):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        self.stages = nn.ModuleList([self.conv] if again else [])

    def forward(self, x):
        return self.conv(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 1, bias=False)
        self.second = nn.Conv2d(2, 2, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def called(module, **options):
    given = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    return torch.func.functional_call(module, given, (torch.ones(1, 2, 1, 1),), **options)


def kept(title, layer, before, more=""):
    now = layer.weight
    told = "parameter kept" if now is before else f"parameter lost, a plain {type(now).__name__} in its place"
    print(f"{title}: {told}{more}")
    return now is before


one, two, untied = Stages(False), Stages(True), Stages(True)
for title, module, options, expected in (
    ("one name", one, {}, True),
    ("two names", two, {}, False),
    ("two names, tie_weights=False", untied, {"tie_weights": False}, True),
):
    before = module.conv.weight
    assert not called(module, **options).any()  # the zeros that were given
    assert kept(title, module.conv, before) is expected
assert not isinstance(two.conv.weight, nn.Parameter)

tied, before = Tied(), None
before = tied.first.weight
nn.init.ones_(before)
given = {"first.weight": 2 * torch.eye(2).view(2, 2, 1, 1)}
x = torch.ones(1, 2, 1, 1)
result = torch.func.functional_call(tied, given, (x,))
assert (result == 4).all()  # 2 · 2
assert kept("tied weight of two layers", tied.second, before, ", result of the given weight")
result = torch.func.functional_call(tied, given, (x,), tie_weights=False)
assert (result == 4).all()  # (1 + 1) · 2: the second layer's own ones
named = torch.func.functional_call(tied, {"first.weight": 3 * torch.eye(2).view(2, 2, 1, 1)}, (x,), tie_weights=False)
assert (named == 6).all()  # 9 if both were the given one
assert kept("tied weight, tie_weights=False", tied.first, before, ", result of both weights")
PY
"$work/venv/bin/python" -W ignore "$work/shared.py"
