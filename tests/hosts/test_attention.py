"""What γ makes of a map and its block."""

from __future__ import annotations

import torch
from zoo import bits, same_bits

from attnzoo.blocks import LocalAttention
from attnzoo.hosts.attention import Attention


def test_gamma_interpolates_between_input_and_block() -> None:
    block, x = LocalAttention(6), torch.randn(2, 6, 5, 4)
    attention = Attention(block, "local", 6)
    with torch.no_grad():
        assert same_bits(attention(x), x)
        attention.gamma.copy_(torch.tensor([0.0, 1.0, 0.5, -1.0, 2.0, 0.1]))
        gamma = attention.gamma.view(1, 6, 1, 1)
        torch.testing.assert_close(attention(x), x + gamma * (block(x) - x))
        last = Attention(block, "local", 6, axes="NHWC")
        last.gamma.copy_(attention.gamma)
        torch.testing.assert_close(last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), attention(x))


def test_negative_zero_stays_negative_under_a_multiplicative_gate() -> None:
    x = torch.tensor([-0.0, 0.0, -1.0, 1.0]).view(1, 4, 1, 1)
    attention = Attention(LocalAttention(4), "local", 4)
    assert torch.equal(bits(attention(x).detach()), bits(x))
