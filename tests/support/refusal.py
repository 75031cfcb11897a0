"""Seeing that `wrap` refuses, and leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from zoo import SIZE, snapshot

import attnzoo

__all__ = ["refused"]


def refused(
    model: nn.Module, error: type[BaseException], match: str, *args: Any, **kw: Any
) -> None:
    """`wrap` raises, and the model is as it was in every respect."""
    untouched, state = snapshot(model), torch.get_rng_state()
    kw.setdefault("example", SIZE)
    with pytest.raises(error, match=match):
        attnzoo.wrap(model, *args, **kw)
    assert snapshot(model) == untouched
    assert torch.equal(torch.get_rng_state(), state)
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
