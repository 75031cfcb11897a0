"""Non-local block: every position takes a weighted mean over all positions.

Source: X. Wang, R. Girshick, A. Gupta, K. He, "Non-local Neural Networks", CVPR 2018,
arXiv 1711.07971.
Shapes: x (N, C, H, W); attention (N, H·W, H·W), a row for each position that looks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnzoo.blocks.parts import Reduction, batch_norm, hidden_channels, wide
from attnzoo.blocks.precision import add_residual, without_autocast
from attnzoo.registry import register_block

__all__ = ["NonLocal"]


@register_block(
    "nonlocal",
    kind="context",
    title="Non-local block",
    paper="Wang, Girshick, Gupta, He: Non-local Neural Networks (CVPR 2018)",
    year=2018,
    arxiv="1711.07971",
    maps={"softmax": "pairwise"},
    identity_at_init=True,
)
class NonLocal(nn.Module):
    """The embedded Gaussian form: softmax attention between all pairs of positions.

        attention = softmax over j of θ(x_i)·φ(x_j) / √h         (N, H·W, H·W)
        y_i = x_i + batchnorm(W_z Σ_j attention_ij g(x_j))       θ, φ, g: C → h;  W_z: h → C

    Equations 2 to 6 of the paper with its BatchNorm after W_z, whose scale starts at zero: the
    block starts as the identity. The division by √h is not in the paper but in the authors' code
    (`USE_SCALE`, on by default); timm's layer divides by √C. θ has a bias; φ, g and W_z have none,
    because the softmax cancels that of φ, and the BatchNorm those of g and W_z. In training, one
    single value (N = H = W = 1) is normalised with the running statistics, because it has no
    variance. The attention is taken in float32 where the network runs in half precision.

    Parameters: 4·C·h + h + 2·C, with h = max(C // r, 1).
    MACs: H·W·(4·C·h + 2·H·W·h).

    Args:
        channels: C, at least 1.
        reduction: r, an integer ≥ 1, or `"auto"` for a width that follows C.

    Raises:
        OptionError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from attnzoo.blocks import NonLocal
        >>> x = torch.randn(2, 64, 14, 14)
        >>> torch.equal(NonLocal(64, reduction=2)(x), x)
        True
    """

    def __init__(self, channels: int, reduction: Reduction = 2) -> None:
        super().__init__()
        hidden = hidden_channels("NonLocal", channels, reduction)
        self.theta = nn.Conv2d(channels, hidden, 1)
        self.phi = nn.Conv2d(channels, hidden, 1, bias=False)
        self.g = nn.Conv2d(channels, hidden, 1, bias=False)
        self.softmax = nn.Softmax(dim=-1)
        self.z = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        g = self.g(x)
        theta, phi, values = (wide(t).flatten(2) for t in (self.theta(x), self.phi(x), g))
        with without_autocast(x):
            logits = torch.bmm(theta.transpose(1, 2) * theta.shape[1] ** -0.5, phi)
            mixed = torch.bmm(values, self.softmax(logits).transpose(1, 2))
        return add_residual(x, batch_norm(self.norm, self.z(mixed.view(g.shape).to(g.dtype))))
