"""Modules and feature maps of unusual kinds: attention is right there, or refused with the reason.

Modules called twice, shared, or iterated by hand: `test_unusual_hosts.py` and `test_mechanism.py`
of `tests/surgery`. Frozen norms: `test_detection.py`.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import timm
import torch
import torchvision
from tasks import let_attention_in, not_learning, run, same_everywhere, tensors
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn import functional as F
from zoo import Branches, Residual, example, same_bits, snapshot

import attnzoo
from attnzoo.errors import NoSitesError, SiteError, UnsupportedModelError

pytestmark = pytest.mark.no_cover

SIZE = (3, 64, 64)


def _wrap(model: nn.Module, policy: Any, x: Tensor) -> list[str]:
    """Wrap it; see that nothing changes, that all attention learns, and that it can be undone.

    Returns:
        The paths of the attention.
    """
    before, untouched = run(model, x), snapshot(model)
    plan = attnzoo.plan(model, policy, "se", reduction=1, example=x)
    assert snapshot(model) == untouched
    plan.apply()
    assert same_everywhere(run(model, x), before)
    let_attention_in(model)
    model.eval()
    result = model(x)
    torch.stack([(t * torch.randn_like(t)).mean() for t in tensors(result)]).sum().backward()
    assert not_learning(model) == {}
    assert not same_everywhere(run(model, x), before)
    paths = [edit.path for edit in plan.edits]
    attnzoo.unwrap(model)
    assert same_everywhere(run(model, x), before)
    return paths


# --- blocks that return tuples and dicts ---------------------------------------------------------


class _Named(nn.Module):
    """Returns a dict: the feature map and its mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = Branches(channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y, mean = self.branches(x)
        return {"map": y, "mean": mean}


class _UsesNamed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.named = _Named(8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = self.named(F.relu(self.stem(x)))
        return {"out": self.head(out["map"]), "mean": out["mean"]}


@pytest.mark.parametrize("where", ["after", "replace"])
@pytest.mark.parametrize("path", ["named", "named.branches"])
def test_no_single_map_leaves_a_module_that_returns_several(path: str, where: str) -> None:
    model = _UsesNamed()
    untouched = snapshot(model)
    with pytest.raises(SiteError, match=f"'{path}' .*returns no single tensor"):
        attnzoo.wrap(model, ("match", {"pattern": path, "where": where}), example=SIZE)
    assert snapshot(model) == untouched


def test_a_map_goes_into_a_module_that_returns_several() -> None:
    policy = ("match", {"pattern": "named", "where": "before"})
    assert _wrap(_UsesNamed(), policy, example()) == ["named.attn_in"]
    inside = ("match", {"pattern": "named.branches.conv"})
    assert _wrap(_UsesNamed(), inside, example()) == ["named.branches.conv.attention"]


class _State(nn.Module):
    """A residual block that takes and returns a map together with something else."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, state: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        x, means = state
        x = x + self.norm(self.conv(F.relu(x)))
        return x, [*means, x.mean((2, 3))]


class _PassesState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.ModuleList([_State(8), _State(8)])

    def forward(self, x: Tensor) -> list[Tensor]:
        state: tuple[Tensor, list[Tensor]] = (self.stem(x), [])
        for block in self.blocks:
            state = block(state)
        return state[1]


def test_blocks_that_pass_a_tuple_on() -> None:
    with pytest.raises(NoSitesError, match=r"(?s)blocks.1.*returns no single tensor.*in-residual"):
        attnzoo.wrap(_PassesState(), "post-residual", example=SIZE)
    paths = _wrap(_PassesState(), "in-residual", example())
    assert paths == ["blocks.0.norm.attention", "blocks.1.norm.attention"]


# --- pools that return their indices -------------------------------------------------------------


class _SegNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.unpool = nn.MaxUnpool2d(2)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, indices = self.pool(self.encoder(x))
        return {"out": self.head(self.unpool(self.middle(x), indices))}


@pytest.mark.parametrize(
    ("pattern", "where", "path"),
    [
        ("pool", "before", "encoder.attn_post_1"),
        ("middle.1", "after", "middle.attn_post_1"),
        ("unpool", "before", "middle.attn_post_1"),
        ("unpool", "after", "unpool.attention"),
    ],
)
def test_around_a_pool_that_returns_its_indices(pattern: str, where: str, path: str) -> None:
    policy = ("match", {"pattern": pattern, "where": where})
    assert _wrap(_SegNet(), policy, example()) == [path]


def test_after_a_pool_that_returns_its_indices() -> None:
    with pytest.raises(SiteError, match=r"'pool' \(MaxPool2d\) returns no single tensor"):
        attnzoo.wrap(_SegNet(), ("match", {"pattern": "pool"}), example=SIZE)


# --- channels last -------------------------------------------------------------------------------


class _PositionWise(nn.Module):
    """A residual block on maps (N, H, W, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(F.gelu(self.expand(self.norm(x))))


class _ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8)
        self.blocks = nn.ModuleList([_PositionWise(8), _PositionWise(8)])
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return [self.head(x.mean((1, 2)))]


@pytest.mark.parametrize("policy", ["post-residual", "in-residual", "stage-end"])
def test_maps_with_channels_last_whose_height_is_their_channels(policy: str) -> None:
    x = torch.randn(2, 3, 64, 48)  # maps of 8 × 6 × 8 channels
    sites = attnzoo.plan(_ChannelsLast(), policy, "se", example=x).sites
    assert {(s.axes, s.channels, s.height, s.width) for s in sites} == {("NHWC", 8, 8, 6)}
    assert _wrap(_ChannelsLast(), policy, x)


# --- modules called more than once ---------------------------------------------------------------


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.block = Residual(8)
        self.head = nn.Sequential(nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        for _ in range(3):
            x = self.block(x)
        return [self.head(x)]


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        ("in-residual", NoSitesError),
        (("match", {"type": "Conv2d"}), SiteError),
    ],
)
def test_a_block_run_several_times(policy: Any, refusal: type[Exception]) -> None:
    model = _Recurrent()
    untouched = snapshot(model)
    with pytest.raises(refusal, match=r"is called 3 times in one forward pass.*wrap the part"):
        attnzoo.wrap(model, policy, example=SIZE)
    assert snapshot(model) == untouched
    policy = ("match", {"pattern": "head", "where": "before"})
    assert _wrap(model, policy, example()) == ["head.attn_pre_0"]


def test_the_last_of_several_runs_has_a_place_before_what_comes_next() -> None:
    plan = attnzoo.plan(_Recurrent(), "post-residual", "se", example=SIZE)
    assert [edit.path for edit in plan.edits] == ["head.attn_pre_0"]
    assert ["called 3 times" in place.reason for place in plan.skipped] == [True]


# --- networks that give out their feature maps ---------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "hook", "getter"])
@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("vgg11_bn", "pre-pool"),
        ("vgg11_bn", "stage-end"),
        ("resnetv2_50", "post-residual"),
        ("mobilenetv3_small_050", "mbconv"),
    ],
)
def test_every_attention_reaches_a_feature_map(name: str, policy: str, kind: str) -> None:
    choice = {} if kind == "list" else {"feature_cls": kind}  # for some it has a class of its own
    model = timm.create_model(name, features_only=True, **choice)
    assert len(_wrap(model, policy, example())) >= 5


# --- quantisation --------------------------------------------------------------------------------


def _quantisable(name: str, quantize: bool = False) -> nn.Module:
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(
        f"quantized_{name}", weights=None, quantize=quantize, **options
    )


@pytest.mark.parametrize(
    ("name", "policy", "count"),
    [
        ("resnet18", "post-residual", 8),
        ("resnet18", "in-residual", 8),
        ("mobilenet_v2", "mbconv", 17),
        ("mobilenet_v3_large", "mbconv", 15),
        ("googlenet", "pre-pool", 4),
        ("shufflenet_v2_x0_5", "stage-end", 4),
    ],
)
def test_networks_that_can_be_quantised(name: str, policy: str, count: int) -> None:
    assert len(_wrap(_quantisable(name), policy, example())) == count


def test_layers_are_fused_around_attention() -> None:
    model, x = _quantisable("resnet18").eval(), example()
    let_attention_in(attnzoo.wrap(model, "post-residual", "se", reduction=1, example=x))
    before = run(model, x)
    model.fuse_model()
    torch.testing.assert_close(run(model, x), before)
    assert len(attnzoo.attention_modules(model)) == 8


def test_attention_between_layers_that_fusing_joins() -> None:
    """Between convolution, norm and addition nothing may stand when these are to become one."""
    model = attnzoo.wrap(_quantisable("resnet18").eval(), "in-residual", "se", example=SIZE)
    with pytest.raises(AssertionError, match="Attended"):  # torch says so itself
        model.fuse_model()
    fused = _quantisable("resnet18").eval()
    fused.fuse_model()
    assert len(_wrap(fused, "in-residual", example())) == 8


@pytest.mark.filterwarnings("ignore")
def test_quantised_networks_are_refused() -> None:
    dynamic = quantization.quantize_dynamic(torchvision.models.squeezenet1_1(), {nn.Conv2d})
    assert attnzoo.plan(dynamic, "pre-pool", example=SIZE).sites  # nothing in it was quantised
    for model in (
        _quantisable("mobilenet_v2", quantize=True),
        quantization.quantize_dynamic(torchvision.models.resnet18(), {nn.Linear}),
    ):
        with pytest.raises(UnsupportedModelError, match=r"is quantised.*Wrap the float model"):
            attnzoo.wrap(model, "auto", example=SIZE)


@pytest.mark.filterwarnings("ignore")
def test_graph_mode_quantisation_takes_attention_along() -> None:
    model, x = torchvision.models.resnet18(num_classes=10).eval(), example()
    attnzoo.wrap(model, ["post-residual", "in-residual"], "se", reduction=1, example=x)
    (expected,) = run(let_attention_in(model), x)
    prepared = prepare_fx(model, quantization.get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "x86"
    try:
        (result,) = run(convert_fx(prepared), x)
    finally:
        torch.backends.quantized.engine = engine
    assert (result - expected).abs().max() < 0.1 * expected.abs().max()


class _Join(nn.Module):
    """Takes more than the feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor | None = None, scale: float = 1.0) -> Tensor:
        y = self.conv(x) * scale
        return y if skip is None else y + skip


class _Joins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), _Join(), _Join()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        return self.two(self.one(y, y, 2.0), scale=3.0)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_host_is_given_its_other_arguments(where: str) -> None:
    model, x = _Joins().eval(), example()
    before = model(x)
    attnzoo.wrap(model, ("match", {"type": "_Join", "where": where}), "se", example=x)
    assert len(attnzoo.attention_modules(model)) == 2
    again = pickle.loads(pickle.dumps(model))
    for wrapped in (model, again):
        assert same_bits(wrapped(x), before)
