"""Networks of transformers are known by their classes, without importing it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.hosts import is_of_transformers

PreTrainedModel = type("PreTrainedModel", (nn.Module,), {"__module__": "transformers.somewhere"})


class Net(PreTrainedModel):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(x).relu())


def test_attention_on_meta_is_warned_of_there_alone() -> None:
    with torch.device("meta"):
        theirs, plain = Net(), nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    assert is_of_transformers(theirs)
    assert not is_of_transformers(plain)
    with pytest.warns(UserWarning, match=r"Net\.from_pretrained\(…\) first"):
        attnzoo.wrap(theirs, "pre-pool", "se", example=(3, 16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attnzoo.wrap(plain, "pre-pool", "se", example=(3, 16, 16))
        attnzoo.wrap(Net(), "pre-pool", "se", example=(3, 16, 16))
