#!/usr/bin/env bash
# PyTorch 2.11.0, torch.library.custom_op with register_autograd.
#
# An operator takes a list of tensors and, last, a number with a default. Its gradient returns one
# value an input, as documented, and works as long as the number is not the default. A call that
# passes the very value of the default ends in its backward pass: the engine compares the gradient's
# structure with the inputs' after arguments that have their default were dropped from these. The
# setup function had been given all of them. Without a list of tensors nothing is compared, and it
# works. PyTorch 2.15.0 gives the gradient for both.
#
# Output seen:
#   scale=2.0: 3 inputs to setup_context, gradient [2.0, 2.0, 2.0]
#   scale=1.0: 3 inputs to setup_context, RuntimeError: Expected the return from backward to be of the same structure
#   without the list, scale=1.0: gradient [1.0, 1.0, 1.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" torch==2.11.0 numpy==2.4.6
cat > "$work/demo.py" <<'PY'
from collections.abc import Sequence

import torch
from torch import Tensor

given = []


@torch.library.custom_op("demo::listed", mutates_args=())
def listed(x: Tensor, others: Sequence[Tensor], scale: float = 1.0) -> Tensor:
    return (x + sum(others)) * scale


@torch.library.custom_op("demo::single", mutates_args=())
def single(x: Tensor, scale: float = 1.0) -> Tensor:
    return x * scale


def keep(ctx, inputs, output):
    given.append(len(inputs))
    ctx.scale = inputs[-1]


listed.register_autograd(
    lambda ctx, g: (g * ctx.scale, [g * ctx.scale], None), setup_context=keep
)
single.register_autograd(lambda ctx, g: (g * ctx.scale, None), setup_context=keep)


def gradient(call):
    x = torch.ones(3, requires_grad=True)
    call(x).sum().backward()
    return x.grad.tolist()


def main():
    other = [torch.ones(3)]
    found = gradient(lambda x: listed(x, other, 2.0))
    print(f"scale=2.0: {given[-1]} inputs to setup_context, gradient {found}")
    assert (given[-1], found) == (3, [2.0] * 3)
    try:
        gradient(lambda x: listed(x, other, 1.0))
    except RuntimeError as error:
        said = str(error)[:62]
    else:
        raise SystemExit("it has changed: the default's value gives a gradient")
    print(f"scale=1.0: {given[-1]} inputs to setup_context, RuntimeError: {said}")
    assert given[-1] == 3
    assert said == "Expected the return from backward to be of the same structure "
    found = gradient(lambda x: single(x, 1.0))
    print(f"without the list, scale=1.0: gradient {found}")
    assert found == [1.0] * 3


main()
PY
"$work/venv/bin/python" "$work/demo.py"
