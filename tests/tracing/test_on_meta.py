"""A forward pass on meta tensors, after which the model is as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, SIZE, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import TraceError
from attnzoo.tracing.on_meta import meta_forward
from attnzoo.tracing.probe import probe


def test_batch_norm_in_train_mode_counts_nothing() -> None:
    model = BACKBONES["resnet18"]().train()
    untouched = snapshot(model)
    probe(model, SIZE)
    assert snapshot(model) == untouched
    assert model.bn1.num_batches_tracked == 0


class _Notes(nn.Module):
    """Keeps all sorts of things from its last forward pass on itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.alias = self.conv
        self.offset = torch.ones(4, 1, 1)  # a tensor that is not registered
        self.scales = [torch.ones(1), 2.0]
        self.cache: dict[str, Tensor] = {}
        self.history: list[Tensor] = []
        self.count = 0
        self.register_buffer("running", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        y = self.conv(x) * self.offset * self.scales[0] * self.scales[1]
        self.last = y
        self.cache["y"] = y
        self.history.append(y)
        self.running.mul_(0.9).add_(y.mean((0, 2, 3)))
        self.running = self.running + 1
        if not hasattr(self, "grid"):
            self.register_buffer("grid", torch.arange(4.0, device=x.device).view(4, 1, 1))
        self.offset = self.offset + 0
        return F.relu(y + self.grid)


def test_what_a_forward_pass_keeps_on_its_modules_does_not_stay() -> None:
    model = nn.Sequential(_Notes(), nn.MaxPool2d(2))
    untouched = snapshot(model)
    trace = probe(model, SIZE)
    assert trace.stopped == ""
    assert snapshot(model) == untouched
    assert not any(p.is_meta for p in model.parameters())  # one module under two names
    attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
    assert not hasattr(model[0], "grid")
    assert not outputs(model).is_meta
    assert (model[0].count, len(model[0].history)) == (1, 1)


def test_nothing_stays_after_an_error_either() -> None:
    class Fails(_Notes):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise ValueError("not today")

    model = Fails()
    untouched = snapshot(model)
    with pytest.raises(TraceError, match=r"Fails failed on an example of .*: ValueError"):
        probe(model, SIZE)
    assert snapshot(model) == untouched
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_tied_weights_and_recurrent_layers() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.b.weight = self.a.weight
            self.rnn = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(F.relu(self.a(x)))
            return self.rnn(x.flatten(2).transpose(1, 2))[0]

    model = Tied()
    untouched = snapshot(model)
    trace = probe(model, (3, 8, 8))
    assert trace.stopped == ""
    assert trace.values[trace.outputs[0]].shape == (1, 64, 4)
    assert snapshot(model) == untouched
    assert model.a.weight is model.b.weight


def test_weight_norm_old_and_new() -> None:
    with pytest.warns(FutureWarning):
        old = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    new = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3))
    model = nn.Sequential(old, nn.MaxPool2d(2), new, nn.MaxPool2d(2), spectral, nn.MaxPool2d(2))
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
    assert same_bits(outputs(model), before)
    attnzoo.unwrap(model)
    assert [s[:4] for s in snapshot(model)] == [s[:4] for s in untouched]


def test_meta_forward_of_a_module_without_tensors() -> None:
    result = meta_forward(nn.ReLU().train(), (torch.empty(1, 2, device="meta"),), {})
    assert result.is_meta
