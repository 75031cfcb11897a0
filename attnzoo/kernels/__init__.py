"""Fused kernels for attention on a GPU: statistics and gates in one read, then one read, one write.

shapes       what is asked for, and how it is cut into launches and blocks
plain        the same formula in PyTorch's operations
triton_*     the kernels; triton is imported by the first fused call only
launch       runs them on tensors
operators    `torch.ops.attnzoo.gated`, with its backward pass
dispatch     whether they can run in a block's place, and the call if they can
"""

from attnzoo.kernels.dispatch import fused, is_watched, joinable, takes

__all__ = ["fused", "is_watched", "joinable", "takes"]
