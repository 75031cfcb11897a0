"""Attention maps: of every block that declares some, of every layout, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from zoo import Gate

import attnzoo
from attnzoo.errors import NoMapsError, NotWrappedError, OptionError
from attnzoo.hosts.attention import Attention
from attnzoo.maps import AttentionMap
from attnzoo.registry import BLOCKS

MAPPED = [name for name in attnzoo.list_blocks() if BLOCKS[name].maps]
SHAPES = {
    "channel": lambda n, c, h, w: (n, c, 1, 1),
    "spatial": lambda n, c, h, w: (n, 1, h, w),
    "both": lambda n, c, h, w: (n, c, h, w),
}


def network(block: str = "cbam", **options: object) -> nn.Module:
    """Two sites, of 8 channels on 6×10 and on 3×5, whose γ are open."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.MaxPool2d(2),
    )
    return opened(attnzoo.wrap(model, "pre-pool", block, example=(3, 6, 10), **options))


def opened(model: nn.Module) -> nn.Module:
    """With γ away from zero, and everything else that starts there."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.uniform_(parameter, 0.1, 0.5)
    return model


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", MAPPED)
@pytest.mark.parametrize("start", ["identity", "paper"])
def test_every_block_that_declares_maps_gives_them(name: str, start: str) -> None:
    model = network(name, start=start)
    x = torch.randn(2, 3, 6, 10)
    model.eval()
    before, kept = model(x), hooks(model)
    maps = attnzoo.attention_maps(model, x)
    assert torch.equal(model(x), before)
    assert hooks(model) == kept
    paths = [path for path, m in model.named_modules() if isinstance(m, Attention)]
    expected = [(path, emitter) for path in paths for emitter in BLOCKS[name].maps]
    assert sorted((m.path, m.emitter) for m in maps) == sorted(expected)
    for found in maps:
        attention = model.get_submodule(found.path)
        assert (found.block, found.channels) == (name, 8)
        assert not found.tensor.requires_grad
        if found.kind in SHAPES:
            shape = (2, found.channels, found.height, found.width)
            assert found.tensor.shape == SHAPES[found.kind](*shape)
        if attention.gamma is None:
            assert found.gamma is None
            assert found.openness == 1
        else:
            assert torch.equal(found.gamma, attention.gamma)
            assert found.openness == pytest.approx(attention.gamma.abs().mean().item())
        heat = found.heat
        if found.kind in ("spatial", "both"):
            assert torch.equal(heat, found.tensor.float().mean(1))
        if heat is not None:
            assert heat.shape == (2, found.height, found.width)
    assert {(m.height, m.width) for m in maps} == {(6, 10), (3, 5)}


def test_the_maps_are_what_the_block_multiplied_by() -> None:
    model = network("spatial", start="paper").eval()
    x = torch.randn(2, 3, 6, 10)
    (first, _) = attnzoo.attention_maps(model, x)
    taken = model[0](x)
    assert torch.allclose(model[1](taken), taken * first.tensor)


def test_attention_between_positions_is_what_each_position_is_given() -> None:
    model = network("nonlocal")
    (found, _) = attnzoo.attention_maps(model, torch.randn(2, 3, 6, 10))
    assert found.tensor.shape == (2, 60, 60)
    assert torch.allclose(found.heat, found.tensor.mean(1).view(2, 6, 10), atol=1e-6)
    assert torch.allclose(found.heat.sum((1, 2)), torch.ones(2))


def test_attention_between_channels_is_not_laid_over_the_picture() -> None:
    def heats(height: int, width: int) -> dict[str, bool]:
        model = opened(
            attnzoo.wrap(
                nn.Sequential(nn.Conv2d(3, 12, 1), nn.MaxPool2d(2)),
                "pre-pool",
                "danet",
                example=(3, height, width),
            )
        )
        maps = attnzoo.attention_maps(model, torch.randn(1, 3, height, width))
        return {m.emitter: m.heat is not None for m in maps}

    assert heats(5, 4) == {"position.softmax": True, "channel.softmax": False}
    # Twelve channels, twelve positions: they cannot be told apart, so neither is shown.
    assert heats(3, 4) == {"position.softmax": False, "channel.softmax": False}
    made = AttentionMap("", "x", "y", "pairwise", torch.full((1, 4, 6), 0.5), 3, 2, 3, None)
    assert made.heat is None  # rows that do not sum to 1


def test_training_is_left_as_it_was() -> None:
    model = network("bam").train()
    model[2].eval()
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    attnzoo.attention_maps(model, torch.randn(2, 3, 6, 10, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in model.modules()].count(False) == 1
    assert not model[2].training
    after = model.state_dict()
    assert all(torch.equal(state[key], after[key]) for key in state)


def test_a_failing_forward_leaves_no_hook() -> None:
    model = network()
    with pytest.raises(RuntimeError):
        attnzoo.attention_maps(model, torch.randn(2, 5, 6, 10))
    assert hooks(model) == 0
    assert model.training


def test_maps_are_recorded_in_training_and_through_a_part() -> None:
    model = network("spatial").train()
    with attnzoo.record_maps(model) as maps:
        model(torch.randn(2, 3, 6, 10))
        model(torch.randn(1, 3, 8, 8))
    assert [(len(m.tensor), m.height) for m in maps] == [(2, 6), (2, 3), (1, 8), (1, 4)]
    with attnzoo.record_maps(model[:2]) as maps:
        model(torch.randn(2, 3, 6, 10))
    assert len(maps) == 1


def test_maps_that_a_network_holds_channels_last() -> None:
    model = _channels_last()
    maps = attnzoo.attention_maps(model, torch.randn(2, 3, 6, 10))
    assert [(m.channels, m.height, m.width) for m in maps] == [(8, 6, 10)]
    assert maps[0].heat.shape == (2, 6, 10)


class _Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.permute(0, 2, 3, 1))


def _channels_last() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 1)
            self.last = _Last()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.stem(x)).mean((1, 2))

    model = attnzoo.wrap(Net(), ("match", {"pattern": "last"}), "spatial", example=(3, 6, 10))
    assert any(m.axes == "NHWC" for m in model.modules() if isinstance(m, Attention))
    return opened(model)


def test_every_frame_of_a_video_has_a_map() -> None:
    model = nn.Sequential(nn.Conv3d(3, 8, 1), nn.MaxPool3d(2))
    attnzoo.wrap(model, "pre-pool", "spatial", example=(1, 3, 4, 6, 10))
    x = torch.randn(2, 3, 4, 6, 10)
    (found,) = attnzoo.attention_maps(model, x)
    assert found.tensor.shape == (8, 1, 6, 10)
    (last,) = attnzoo.attention_maps(model, x[1:, :, 3:].repeat(1, 1, 2, 1, 1))
    assert torch.allclose(found.tensor[7], last.tensor[0], atol=1e-6)


def test_a_compiled_model_gives_the_maps_of_the_plain_one() -> None:
    model = network().eval()
    x = torch.randn(2, 3, 6, 10)
    plain = attnzoo.attention_maps(model, x)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    maps = attnzoo.attention_maps(compiled, x)
    assert [m.emitter for m in maps] == [m.emitter for m in plain]
    assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(maps, plain, strict=True))
    assert torch.allclose(compiled(x), model(x))


def test_replaced_modules_put_aside_keep_their_mode() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    attnzoo.wrap(
        model,
        ("match", {"pattern": "1", "where": "replace"}),
        "spatial",
        start="paper",
        example=(3, 6, 10),
    )
    aside = model[1].original
    attnzoo.attention_maps(model, torch.randn(1, 3, 6, 10))
    assert aside.training
    assert model.training


def test_without_attention_there_are_no_maps() -> None:
    with pytest.raises(NotWrappedError, match=r"Sequential holds no attention.*attnzoo\.wrap"):
        attnzoo.attention_maps(nn.Sequential(nn.Conv2d(3, 8, 1)), torch.randn(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("affine", "- affine: it is a control and attends to nothing."),
        ("mhsa", "- mhsa: The attention runs in scaled_dot_product_attention"),
    ],
)
def test_blocks_without_maps_say_why(block: str, why: str) -> None:
    model = network(block)
    with pytest.raises(NoMapsError, match="none of the model's blocks") as caught:
        attnzoo.attention_maps(model, torch.randn(1, 3, 6, 10))
    assert why in str(caught.value)


@pytest.mark.usefixtures("registries")
def test_blocks_of_ones_own() -> None:
    attnzoo.register_block("silent", kind="spatial")(Gate)
    with pytest.raises(NoMapsError, match=r"silent: its spec declares none"):
        attnzoo.attention_maps(network("silent"), torch.randn(1, 3, 6, 10))
    attnzoo.register_block("told", kind="spatial", maps={"squash": "spatial"})(Gate)
    assert len(attnzoo.attention_maps(network("told"), torch.randn(1, 3, 6, 10))) == 2
    attnzoo.register_block("wrong", kind="spatial", maps={"sqash": "spatial"})(Gate)
    model = network("wrong")
    with pytest.raises(OptionError, match=r"'wrong'.*'sqash'.*no such submodule. It has: squash"):
        attnzoo.attention_maps(model, torch.randn(1, 3, 6, 10))
    assert hooks(model) == 0
