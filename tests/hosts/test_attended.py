"""A layer with attention around it answers for what it was."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from zoo import same_bits

import attnzoo
from attnzoo.hosts import Attended

SIZE = (8, 16, 16)


class Asks(nn.Module):
    """Code that reads its layer, as that of Ultralytics and of mixed precision does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.b.f, self.b.type = -1, "Conv"

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu().to(self.b.weight.dtype)
        assert y.shape[1] == self.b.in_channels
        assert self.b.f == -1
        return x + self.b(y)


@pytest.fixture
def model() -> nn.Module:
    made = attnzoo.wrap(nn.Sequential(Asks(), nn.ReLU()), "in-residual", "se", example=SIZE)
    assert isinstance(made[0].b, Attended)
    return made.eval()


def test_the_code_around_it_runs(model: nn.Module) -> None:
    x = torch.rand(1, *SIZE)
    layer = model[0].b
    assert (layer.type, layer.out_channels, layer.padding) == ("Conv", 8, (1, 1))
    assert layer.weight is layer.host.weight
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other[0].b.weight is other[0].b.host.weight
        assert other[0].b.weight is not layer.weight
        assert same_bits(other(x), model(x))
    exported = torch.export.export(model, (x,)).module()
    assert same_bits(exported(x), model(x))
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))


def test_names_and_parameters_are_not_doubled(model: nn.Module) -> None:
    names = [name for name, _ in model[0].b.named_parameters() if "attention" not in name]
    assert names == ["host.weight", "host.bias"]
    attnzoo.unwrap(model)
    assert model[0].b.type == "Conv"


def test_what_is_set_is_set_on_the_layer(model: nn.Module) -> None:
    layer = model[0].b
    layer.weight = nn.Parameter(torch.zeros(8, 8, 3, 3))
    layer.f = 7
    layer.mine = 1
    assert (layer.host.f, layer.host.weight.sum()) == (7, 0)
    assert "weight" not in layer._parameters
    assert "mine" in vars(layer)
    layer.eval()
    layer.host.train()
    assert not layer.training


def test_what_nobody_has_is_told_as_ever(model: nn.Module) -> None:
    with pytest.raises(AttributeError, match=r"Conv2d.*nothing"):
        _ = model[0].b.nothing
    with pytest.raises(AttributeError, match=r"_modules|host"):
        _ = object.__new__(Attended).host


def test_a_norm_is_not_folded_behind_its_back() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    held = attnzoo.wrap(
        nn.ModuleDict({"f": net}).f, ("match", {"pattern": "1"}), "se", example=(3, 8, 8)
    )
    norm = Attended(nn.BatchNorm2d(8), held.attn_post_1, "after")
    assert norm.num_features == 8
    with pytest.raises(AttributeError, match="folded"):
        _ = norm.running_mean
