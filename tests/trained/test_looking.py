"""Where attention looks, in numbers that are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import NoMapsError, NotWrappedError, OptionError
from attnzoo.trained import changes, deletion, looks, saliency

BOX = torch.tensor([[8, 8, 24, 24], [0, 0, 16, 32]])  # a quarter, and a half of the image


def network(block: str = "spatial", **options: object) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    return attnzoo.wrap(model, "pre-pool", block, example=(3, 32, 32), start="paper", **options)


def emit(model: nn.Module, heat: torch.Tensor) -> None:
    """Let the map of the model's only attention be `heat`, `(N, 1, H, W)`."""
    (attention,) = attnzoo.attention_modules(model).values()
    gate = attention.get_submodule("gate")
    gate.register_forward_hook(lambda *_: heat)


def test_a_map_that_is_even_lies_inside_by_the_share_of_the_area() -> None:
    model = network()
    emit(model, torch.full((2, 1, 32, 32), 0.5))
    (look,) = looks(model, torch.randn(2, 3, 32, 32), BOX)
    assert look.area == pytest.approx((0.25 + 0.5) / 2)
    assert look.inside == pytest.approx(look.area)
    assert look.ratio == pytest.approx(1)
    assert look.pointing == pytest.approx(look.area)


def test_a_map_inside_the_box_lies_wholly_inside_and_points_there() -> None:
    model = network()
    heat = torch.zeros(2, 1, 32, 32)
    heat[0, 0, 10, 10] = heat[1, 0, 31, 15] = 1.0
    emit(model, heat)
    (look,) = looks(model, torch.randn(2, 3, 32, 32), BOX)
    assert look.inside == pytest.approx(1)
    assert look.pointing == 1
    assert look.ratio == pytest.approx(1 / look.area)
    heat.zero_()[:, 0, 31, 31] = 1.0
    (look,) = looks(model, torch.randn(2, 3, 32, 32), BOX)
    assert (look.inside, look.pointing) == (0, 0)


def test_the_change_is_that_of_the_gate_and_a_constant_factor_is_no_deviation() -> None:
    model = network()
    emit(model, torch.full((2, 1, 32, 32), 0.25))
    (change,) = changes(model, torch.randn(2, 3, 32, 32))
    assert change.relative == pytest.approx(0.75)
    assert change.deviation == pytest.approx(0, abs=1e-6)
    fresh = network()
    attnzoo.unwrap(fresh)
    attnzoo.wrap(fresh, "pre-pool", "spatial", example=(3, 32, 32))  # γ = 0
    fresh.train()
    (change,) = changes(fresh, torch.randn(2, 3, 32, 32))
    assert (change.relative, change.deviation) == (0, 0)
    assert fresh.training


def test_saliency_goes_from_0_to_1_at_the_size_of_the_images() -> None:
    model = network()
    heat = torch.rand(2, 1, 32, 32)
    emit(model, heat)
    found = saliency(model, torch.randn(2, 3, 32, 32))
    assert found.shape == (2, 32, 32)
    assert float(found.amin()) == 0
    assert float(found.amax()) == pytest.approx(1)
    assert int(found[0].argmax()) == int(heat[0].argmax())


def test_deletion_takes_the_first_pixels_and_insertion_puts_them_in() -> None:
    class Corner(nn.Module):
        """Right where the first pixel is bright."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bright = x[:, 0, 0, 0]
            return torch.stack([0.5 - bright, bright - 0.5], 1)

    images = torch.ones(3, 1, 4, 4)
    labels = torch.ones(3, dtype=torch.long)
    order = torch.arange(16.0).flip(0).view(1, 4, 4).expand(3, 4, 4)  # the corner first
    shares = (0.0, 0.0625, 1.0)
    assert deletion(Corner(), images, labels, order, shares) == [1.0, 0.0, 0.0]
    assert deletion(Corner(), images, labels, order, shares, insert=True) == [0.0, 1.0, 1.0]
    assert deletion(Corner(), images, labels, -order, (0.5, 1.0)) == [1.0, 0.0]


def test_what_does_not_fit_is_refused() -> None:
    images = torch.randn(2, 3, 32, 32)
    with pytest.raises(OptionError, match=r"boxes have the shape \(1, 4\)"):
        looks(network(), images, BOX[:1])
    with pytest.raises(NotWrappedError):
        looks(nn.Conv2d(3, 4, 3), images, BOX)
    with pytest.raises(NoMapsError):
        looks(network("affine"), images, BOX)
    with pytest.raises(OptionError, match="none of the model's attention maps is over positions"):
        saliency(network("se"), images)
    with pytest.raises(OptionError, match="order has the shape"):
        deletion(network(), images, torch.zeros(2), images, (0.5,))
    with pytest.raises(OptionError, match="shares"):
        deletion(network(), images, torch.zeros(2), images[:, 0], (1.5,))
