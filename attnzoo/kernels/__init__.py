"""Fused kernels for attention on a GPU: one read for all gates, then one read and one write.

- `shapes`: what is asked for, and how it is cut into launches and blocks.
- `plain`: the same formula in PyTorch's operations.
- `triton_forward`, `triton_backward`: the kernels; the first fused call imports triton.
- `launch`: runs them on tensors.
- `operators`: `torch.ops.attnzoo.gated` and its backward pass.
- `dispatch`: whether they can run in a block's place, and the call if they can.
"""

from attnzoo.kernels.dispatch import fused, is_watched, joinable, takes

__all__ = ["fused", "is_watched", "joinable", "takes"]
