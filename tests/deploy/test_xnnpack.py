"""What XNNPACK leaves out, written in what it takes, computes the same and leaves nothing out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import attnzoo
from attnzoo.deploy.xnnpack import REWRITTEN
from attnzoo.hosts import Attention

pytestmark = pytest.mark.no_cover

#: Of the six blocks that go to XNNPACK whole. A mean only over both sides, a maximum by no name.
TAKEN = {
    *("_native_batch_norm_legit_no_training", "<built-in function getitem>"),
    *("adaptive_avg_pool2d", "add", "avg_pool2d", "cat", "clone", "conv1d", "conv2d", "div"),
    *("hardswish", "max_pool2d", "maximum", "mean", "mul", "permute", "relu", "rsub", "sigmoid"),
    *("slice", "square", "sub", "transpose", "view"),
}
#: Of parameters and shapes, which are worked out before.
FOLDED = {"_assert_tensor_metadata", "full", "promote_types"}


class Operation(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over C": lambda x: x.mean(1, keepdim=True),
    "mean over H": lambda x: x.mean(2),
    "mean over W": lambda x: x.mean(3, keepdim=True),
    "mean over H, W": lambda x: x.mean((-1, -2)),
    "mean over C, H": lambda x: x.mean((1, 2)),
    "mean of frames": lambda x: x.unflatten(1, (3, 2)).mean((3, 4), keepdim=True),
    "mean of one row": lambda x: x[:, :, :1].mean(2),
    "sum over H, W": lambda x: x.sum((2, 3)),
    "sum over C": lambda x: x.sum(1),
    "maximum over C": lambda x: x.amax(1),
    "maximum over five of C": lambda x: x[:, 1:].amax(1, keepdim=True),
    "maximum over H": lambda x: x.amax(2, keepdim=True),
    "maximum over W": lambda x: x.amax(-1),
    "maximum over H, W": lambda x: x.amax((2, 3)),
    "maximum over C, H, W": lambda x: x.amax((1, 2, 3)),
    "variance": lambda x: x.var((2, 3), correction=1),
    "variance of one value": lambda x: x[:, :, :1, :1].var((2, 3), correction=1).nan_to_num(7),
    "variance and mean": lambda x: torch.cat(torch.var_mean(x, (2, 3), correction=0)),
    "deviation": lambda x: x.std((2, 3), correction=0, keepdim=True),
    "group norm": lambda x: torch.group_norm(x, 3, torch.arange(6.0), torch.ones(6)),
    "group norm of signals": lambda x: torch.group_norm(x.flatten(2), 2),
    "squeezed": lambda x: x.unsqueeze(1).squeeze(1),
    "selected": lambda x: x.select(1, -2),
    "stacked": lambda x: torch.stack([x, 2 * x], dim=2),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_numbers_are_the_same(name: str) -> None:
    module, x = Operation(OPERATIONS[name]), torch.randn(2, 6, 5, 7)
    program = torch.export.export(module, (x,)).run_decompositions(REWRITTEN)
    torch.testing.assert_close(program.module()(x), module(x))
    known = {"amax", "sum", "var", "var_mean", "std", "group_norm", "select", "stack", "unsqueeze"}
    assert not _operations(program) & known


@pytest.mark.parametrize("name", ["se", "local", "eca", "cbam", "simam", "coord"])
def test_the_common_blocks_leave_nothing_out(name: str) -> None:
    x = torch.randn(2, 16, 8, 8)
    attention = Attention(attnzoo.create_block(name, 16), name, 16).eval()
    with torch.no_grad():
        attention.gamma.fill_(0.7)  # ty: ignore[unresolved-attribute]
        program = torch.export.export(attention, (x,)).run_decompositions(REWRITTEN)
        torch.testing.assert_close(program.module()(x), attention(x))
    assert _operations(program) <= TAKEN | FOLDED
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.mean.dim:
            assert node.args[1:] == ([2, 3], True)


def _operations(program: torch.export.ExportedProgram) -> set[str]:
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    return {str(node.target).removeprefix("aten.").partition(".")[0] for node in calls}
