"""What blocks compute in float32 when the map is in half precision."""

from __future__ import annotations

import pytest
import torch
from formulas import randomised
from torch import Tensor

import attnzoo


@pytest.mark.parametrize("name", ["lka", "lsk"])
def test_unbounded_attention_is_held_at_the_ends_of_float16(name: str) -> None:
    block = attnzoo.create_block(name, 8).half()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.fill_(1)
    y = block(torch.full((1, 8, 9, 9), 1000.0, dtype=torch.float16))
    assert y.max() == torch.finfo(torch.float16).max


@pytest.mark.parametrize("name", ["gct", "grn", "simam", "sge", "srm"])
@torch.no_grad()
def test_half_precision_sums_squares_in_float32(name: str) -> None:
    block = randomised(name, 8).float()
    x = (300 * torch.randn(2, 8, 12, 12)).half()
    expected = block(x.float())
    torch.testing.assert_close(block(x).float(), expected, rtol=2e-3, atol=0.5)


WIDE = {
    "axial": ("columns.softmax", "rows.softmax"),
    "crisscross": ("softmax",),
    "danet": ("position.softmax", "channel.softmax"),
    "local-self": ("spatial_attention.softmax",),
    "nonlocal": ("softmax",),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("name", WIDE)
@torch.no_grad()
def test_half_precision_takes_logits_and_attention_in_float32(
    name: str, autocast: bool, dtype: torch.dtype
) -> None:
    block = attnzoo.create_block(name, 8).to(torch.float32 if autocast else dtype)
    seen: list[torch.dtype] = []
    for path in WIDE[name]:
        block.get_submodule(path).register_forward_hook(
            lambda module, args, output: seen.extend((args[0].dtype, output.dtype))
        )
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        assert block(torch.randn(1, 8, 5, 4, dtype=dtype)).dtype == dtype
    assert seen == [torch.float32] * 2 * len(WIDE[name])


@pytest.mark.parametrize("autocast", [True, False])
@torch.no_grad()
def test_mhsa_attends_in_float32_in_half_precision(
    autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def recorded(*args: Tensor, attn_mask: Tensor) -> Tensor:
        seen.extend((*args, attn_mask, real(*args, attn_mask=attn_mask)))
        return seen[-1]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    block = attnzoo.create_block("mhsa", 8).to(torch.float32 if autocast else torch.float16)
    with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
        block(torch.randn(1, 8, 5, 4, dtype=torch.float16))
    assert [tensor.dtype for tensor in seen] == [torch.float32] * 5
