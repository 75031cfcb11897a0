"""Fused kernels for attention on a GPU: one read for all gates, then one read and one write.

- `shapes`: what is asked for, and how it is cut into launches and blocks.
- `plain`: the same formulas in PyTorch's operations.
- `job`: one map and how kernels go over it; `common`: what the operators share.
- `dispatch`: whether they can run in a block's place; `calls`: the calls if they can.

For gates from 1×1 convolutions (`local`, `scse`, `se`, `eca`):

- `triton_forward`, `triton_backward`: the kernels; `launch` runs them on tensors.
- `operators`: `torch.ops.attnzoo.gated` and its backward pass.

For `simam`:

- `triton_planes`, `triton_energy`: the kernels; `launch_energy` runs them.
- `energy`: `torch.ops.attnzoo.energy` and its backward pass.

For `cbam` and `spatial`, whose small layers stay modules between the operators:

- `triton_planes`, `triton_columns`: the kernels; `launch_gates` runs them.
- `gates`: `torch.ops.attnzoo.planes`, `pixels` and `gate_maps`, and their backward passes.

Where they don't run, gates are applied by `gating`, from what `statistics`, `moments`,
`convolving` and `recompute` help to compute in little time and memory; `softening` is for blocks
that are no gates.

The kernels that apply a gate are in `triton_forward`, and `launch_apply` runs them for all. The
first fused call imports triton.
"""

from attnzoo.kernels.calls import (
    apply_energy,
    apply_gates,
    apply_layers,
    reduce_pixels,
    reduce_planes,
)
from attnzoo.kernels.convolving import into_one_map, through_pixels
from attnzoo.kernels.dispatch import is_exported, is_watched, joinable, permits, takes
from attnzoo.kernels.gating import gated_map, plus, times
from attnzoo.kernels.moments import scale_and_shift
from attnzoo.kernels.recompute import convolved, recomputed
from attnzoo.kernels.softening import added, laid_as, softened
from attnzoo.kernels.statistics import (
    before_mean,
    deviation,
    mean,
    mean_and_maximum,
    quotient,
    squares,
)

__all__ = [
    "added",
    "apply_energy",
    "apply_gates",
    "apply_layers",
    "before_mean",
    "convolved",
    "deviation",
    "gated_map",
    "into_one_map",
    "is_exported",
    "is_watched",
    "joinable",
    "laid_as",
    "mean",
    "mean_and_maximum",
    "permits",
    "plus",
    "quotient",
    "recomputed",
    "reduce_pixels",
    "reduce_planes",
    "scale_and_shift",
    "softened",
    "squares",
    "takes",
    "through_pixels",
    "times",
]
