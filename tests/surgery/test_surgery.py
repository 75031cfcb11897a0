from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import (
    BACKBONES,
    HandIterated,
    PlainVGG,
    Residual,
    TupleOutput,
    bits,
    example,
    outputs,
    same_bits,
    snapshot,
)

import attnzoo
from attnzoo.blocks import LocalAttention
from attnzoo.errors import (
    AttnzooError,
    NoSitesError,
    NotWrappedError,
    OptionError,
    SiteError,
    SurgeryError,
)
from attnzoo.hosts.attention import Attended, Attention, Replaced
from attnzoo.registry import POLICIES, register_block, register_policy
from attnzoo.surgery.record import operations

SIZE = (3, 64, 64)


@pytest.fixture(scope="module", params=list(BACKBONES))
def backbone(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """A network in eval mode and what it computes."""
    torch.manual_seed(0)
    model = BACKBONES[request.param]().eval()
    return model, outputs(model)


def _requests() -> list[Any]:
    """Every policy, and the options that make it do something else."""
    plain: list[Any] = [spec.name for spec in POLICIES if spec.name != "match"]
    return [
        *plain,
        ("pre-pool", {"trunk_only": True}),
        ("mbconv", {"position": "se"}),
        ("match", {"type": "BatchNorm2d", "every": 5}),
        ("match", {"type": "Conv2d", "where": "before", "every": 7}),
        ["stage-end", ("post-residual", {"occupied": "skip"})],
    ]


@pytest.mark.parametrize("block", ["danet", "gct", "none"])
def test_a_block_that_returns_its_input_takes_a_modules_place_by_gamma(block: str) -> None:
    model = BACKBONES["timm/mobilenetv3_small_050"]().eval()
    before = outputs(model)
    attnzoo.wrap(model, ("mbconv", {"position": "se"}), block, example=SIZE)
    assert same_bits(outputs(model), before)
    (model(example()) ** 2).sum().backward()
    gammas = [m.attention.gamma for m in model.modules() if isinstance(m, Replaced)]
    assert gammas
    assert all(gamma.grad.abs().max() > 0 for gamma in gammas)


@pytest.mark.no_cover
@pytest.mark.parametrize("number", range(len(_requests())), ids=lambda i: str(_requests()[i]))
def test_identity_start_changes_no_bit(backbone: tuple[nn.Module, Tensor], number: int) -> None:
    model, before = backbone
    policy, blocks = _requests()[number], attnzoo.list_blocks()
    untouched = snapshot(model)
    keys, types = list(model.state_dict()), [type(m) for m in model.modules()]
    random_state = torch.get_rng_state()
    block = blocks[number % len(blocks)]  # the sweep over all blocks is the next test
    try:
        plan = attnzoo.plan(model, policy, block, example=SIZE)
    except (NoSitesError, SiteError):
        assert snapshot(model) == untouched
        return
    assert snapshot(model) == untouched
    plan.apply()
    assert torch.equal(torch.get_rng_state(), random_state)
    after = outputs(model)
    assert len(attnzoo.attention_modules(model)) == len(plan.sites) > 0
    attnzoo.unwrap(model)
    assert same_bits(after, before)
    assert snapshot(model) == untouched
    assert list(model.state_dict()) == keys
    assert [type(m) for m in model.modules()] == types
    assert same_bits(outputs(model), before)


@pytest.mark.no_cover
@pytest.mark.parametrize("block", attnzoo.list_blocks())
@pytest.mark.parametrize(
    "backbone",
    ["plain", "resnet18", "timm/efficientnet_b0", "timm/mambaout_femto"],
    indirect=True,
)
def test_identity_start_changes_no_bit_for_any_block(
    backbone: tuple[nn.Module, Tensor], block: str
) -> None:
    model, before = backbone
    untouched = snapshot(model)
    attnzoo.wrap(model, "auto", block, example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_what_is_wrapped_in_inference_mode_can_be_trained() -> None:
    model = torchvision.models.resnet18()
    with torch.inference_mode():
        attnzoo.wrap(model, "in-residual", "se", example=(3, 32, 32))
        of_this_mode = torchvision.models.resnet18().eval()
        before = of_this_mode(torch.ones(1, 3, 32, 32))
        attnzoo.wrap(of_this_mode, "in-residual", "se")
        assert torch.equal(of_this_mode(torch.ones(1, 3, 32, 32)), before)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    assert all(module.gamma.grad.isfinite().all() for module in attentions)
    assert len(attentions) == 8


def test_gradients_reach_gamma_and_the_backbone_trains_as_before() -> None:
    plain, wrapped = _twins()
    attnzoo.wrap(wrapped, "pre-pool", "se", example=SIZE)
    x = example()
    plain.train()(x).square().sum().backward()
    wrapped.train()(x).square().sum().backward()
    theirs = dict(wrapped.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(theirs[name].grad, parameter.grad), name
    for module in wrapped.modules():
        if isinstance(module, Attention):
            assert module.gamma.grad.abs().sum() > 0
    plain_buffers, buffers = dict(plain.named_buffers()), dict(wrapped.named_buffers())
    assert all(torch.equal(buffers[name], value) for name, value in plain_buffers.items())


def _twins(make: Callable[[], nn.Module] = PlainVGG) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(3)
    one = make()
    torch.manual_seed(3)
    return one, make()


# --- attention itself ---------------------------------------------------------------------------


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


def test_blocks_of_equal_width_start_from_different_weights() -> None:
    model = attnzoo.wrap(BACKBONES["resnet18"](), "in-residual", "se", example=SIZE)
    first, second = list(attnzoo.attention_modules(model).values())[:2]
    assert not torch.equal(first.gate.fc1.weight, second.gate.fc1.weight)


def test_the_seed_decides_how_blocks_start() -> None:
    weights = []
    for seed in (1, 1, 2):
        model = PlainVGG()
        torch.manual_seed(seed)
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
        weights.append(next(iter(attnzoo.attention_modules(model).values())).gate.fc1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# --- parity with start="paper" ------------------------------------------------------------------


class _ByHand(nn.Module):
    """PlainVGG with local attention written in before each pool."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        old = list(model.features)
        new = [*old[:2], LocalAttention(8), *old[2:6], LocalAttention(16), old[6]]
        self.features = nn.Sequential(*new)
        self.avgpool, self.classifier = model.avgpool, model.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def test_paper_start_equals_the_network_edited_by_hand() -> None:
    model, twin = _twins()
    attnzoo.wrap(model, "pre-pool", "local", start="paper", example=SIZE)
    by_hand = _ByHand(twin)
    for mine, theirs in zip(
        attnzoo.attention_modules(model).values(),
        (by_hand.features[2], by_hand.features[7]),
        strict=True,
    ):
        theirs.load_state_dict(mine.state_dict())
    x = example()
    assert same_bits(outputs(model, x), outputs(by_hand, x))
    model.train()(x).sum().backward()
    by_hand.train()(x).sum().backward()
    assert torch.equal(model.features[0].weight.grad, by_hand.features[0].weight.grad)
    assert not same_bits(outputs(attnzoo.unwrap(model), x), outputs(by_hand, x))


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18"])
def test_paper_start_in_a_slot_is_before_the_addition(name: str) -> None:
    plain, model = _twins(BACKBONES[name])
    attnzoo.wrap(
        model, ("in-residual", {"include": "layer1.0.*"}), "se", start="paper", example=SIZE
    )
    (attention,) = attnzoo.attention_modules(model).values()
    block = plain.eval().layer1[0]
    x = F.relu(torch.randn(2, 64, 8, 8))
    with torch.no_grad():
        act1, act2 = (block.act1, block.act2) if name.startswith("timm") else (block.relu,) * 2
        branch = block.bn2(block.conv2(act1(block.bn1(block.conv1(x)))))
        expected = act2(attention(branch) + x)
        assert torch.equal(model.eval().layer1[0](x), expected)


# --- state ---------------------------------------------------------------------------------------


def _flags(model: nn.Module) -> list[Any]:
    return [
        [(name, module.training) for name, module in model.named_modules()],
        [(name, p.requires_grad, p.dtype, p.device) for name, p in model.named_parameters()],
    ]


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_gradient_flags_stay(training: bool) -> None:
    model = BACKBONES["resnet18"]().train(training)
    model.layer1.train(not training)
    model.layer2[0].bn1.train(not training)
    model.layer3.requires_grad_(False)
    flags = _flags(model)
    attnzoo.wrap(model, ["in-residual", "pre-pool", "post-residual"], example=SIZE)
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            around = "layer1" in path
            expected = training != around
            assert all(inner.training == expected for inner in module.modules()), path
    assert all(
        p.requires_grad for m in attnzoo.attention_modules(model).values() for p in m.parameters()
    )
    assert _flags(attnzoo.unwrap(model)) == flags


def test_wrap_keeps_the_mode_of_every_old_module() -> None:
    model = PlainVGG().train()
    model.features[4].eval()
    attnzoo.wrap(model, "pre-pool", example=SIZE)
    assert model.training
    assert model.features.training
    modes = {name: m.training for name, m in model.named_modules()}
    assert not modes["features.4"]
    assert modes["features.attn_pre_2.block"]


@pytest.mark.no_cover
@pytest.mark.parametrize("policy", ["pre-pool", "in-residual", "post-residual"])
def test_bfloat16_and_float64(policy: str) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        model = BACKBONES["resnet18"]().to(dtype)
        x = example().to(dtype)
        before = outputs(model, x)
        attnzoo.wrap(model, policy, example=SIZE)
        assert {p.dtype for p in model.parameters()} == {dtype}
        after = outputs(model, x)
        assert same_bits(after, before)
        assert same_bits(outputs(attnzoo.unwrap(model), x), before)


@pytest.mark.parametrize("name", ["resnet18", "plain", "timm/convnext_atto"])
def test_channels_last(name: str) -> None:
    model = BACKBONES[name]().to(memory_format=torch.channels_last)
    x = example().to(memory_format=torch.channels_last)
    strides = {key: value.stride() for key, value in model.state_dict().items()}
    before = outputs(model, x)
    attnzoo.wrap(model, "auto", "local", example=x)
    assert same_bits(outputs(model, x), before)
    for block in attnzoo.attention_modules(model).values():
        weight = block.spatial_attention[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last)
    attnzoo.unwrap(model)
    assert {key: value.stride() for key, value in model.state_dict().items()} == strides
    assert same_bits(outputs(model, x), before)


def test_a_model_on_meta() -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg16()
    untouched = snapshot(model)
    plan = attnzoo.plan(model, "pre-pool", "local")
    assert [site.channels for site in plan.sites] == [64, 128, 256, 512, 512]
    plan.apply()
    assert all(p.is_meta for p in model.parameters())
    assert model(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 1000)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_batch_norm_statistics_and_random_state_stay() -> None:
    model = BACKBONES["resnet18"]().train()
    statistics = {k: v.clone() for k, v in model.named_buffers()}
    state = torch.get_rng_state()
    attnzoo.wrap(model, "auto", "cbam", example=SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in statistics.items():
        assert torch.equal(model.get_buffer(name), value)


# --- records -------------------------------------------------------------------------------------


def test_records_of_what_was_done() -> None:
    model = PlainVGG()
    assert attnzoo.recipes(model) == []
    assert attnzoo.attention_modules(model) == {}
    attnzoo.wrap(model, "pre-pool", "se", reduction=4, example=SIZE)
    attnzoo.wrap(model, ("match", {"pattern": "avgpool"}), "eca", start="paper", example=SIZE)
    first, second = attnzoo.recipes(model)
    assert (first.block, first.start, dict(first.options)) == ("se", "identity", {"reduction": 4})
    assert first.input_size == SIZE
    assert (second.block, second.start) == ("eca", "paper")
    assert list(attnzoo.attention_modules(model)) == [
        "features.attn_pre_2.block",
        "features.attn_pre_6.block",
        "avgpool.attention.block",
    ]
    assert [path for path, _ in operations(model)] == ["", ""]
    attnzoo.unwrap(model)
    assert attnzoo.recipes(model) == []


def test_unwrap_of_a_plain_model_says_so() -> None:
    with pytest.raises(NotWrappedError, match="PlainVGG"):
        attnzoo.unwrap(PlainVGG())
    with pytest.raises(ValueError, match="wrap"):
        attnzoo.unwrap(attnzoo.unwrap(attnzoo.wrap(PlainVGG(), "pre-pool", example=SIZE)))


class _Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = PlainVGG()
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def test_wrap_a_part_then_the_whole_then_unwrap() -> None:
    model = _Detector()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model.backbone, "pre-pool", "se", example=SIZE)
    attnzoo.wrap(model, ("match", {"type": "Conv2d"}), "eca", example=SIZE)
    assert [path for path, _ in operations(model)] == ["backbone", ""]
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_wrap_the_whole_then_a_part_then_unwrap() -> None:
    model = _Detector()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"pattern": "*avgpool"}), "se", example=SIZE)
    # the part's edits stand on the whole's: they have to go first
    stacked = ("match", {"pattern": "avgpool", "where": "after", "occupied": "stack"})
    attnzoo.wrap(model.backbone, stacked, "eca", example=SIZE)
    attnzoo.wrap(model.backbone, stacked, "eca", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 3
    assert [path for path, _ in operations(model)] == ["", "backbone", "backbone"]
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_unwrap_a_part_of_a_wrapped_whole_points_to_the_whole() -> None:
    model = attnzoo.wrap(_Detector(), "pre-pool", example=SIZE)
    state = snapshot(model)
    with pytest.raises(NotWrappedError, match="around it"):
        attnzoo.unwrap(model.backbone)
    assert snapshot(model) == state


def test_stacked_wraps_unwrap_in_reverse() -> None:
    model = BACKBONES["resnet18"]()
    before, untouched = outputs(model), snapshot(model)
    for block in ("se", "eca", "local"):
        attnzoo.wrap(model, ("in-residual", {"occupied": "stack"}), block, example=SIZE)
        attnzoo.wrap(model, ("pre-pool", {"occupied": "stack"}), block, example=SIZE)
        attnzoo.wrap(model, ("post-residual", {"occupied": "stack"}), block, example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 3 * (8 + 1 + 8)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched
    assert same_bits(outputs(model), before)


# --- all or nothing ------------------------------------------------------------------------------


def _refused(
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


@pytest.mark.usefixtures("registries")
def test_a_policy_that_raises_midway() -> None:
    @register_policy("broken")
    def broken(trace: Any) -> Any:
        yield trace.before(next(call for call in trace.calls if call.type == "MaxPool2d"))
        raise RuntimeError("half way")

    _refused(PlainVGG(), RuntimeError, "half way", "broken")
    _refused(PlainVGG(), RuntimeError, "half way", ["pre-pool", "broken"])


@pytest.mark.usefixtures("registries")
def test_a_broken_policy_does_not_hide_why_another_found_nothing() -> None:
    @register_policy("broken")
    def broken(trace: Any) -> Any:
        raise RuntimeError("never mind")

    @register_policy("demanding")
    def demanding(trace: Any, pattern: str) -> Any:
        return []

    _refused(PlainVGG(), NoSitesError, r"pre-pool \(2\)", "post-residual")


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("result", [None, 3, ["features.0"], [None], [("features.0", "after")]])
def test_a_policy_that_returns_something_else(result: Any) -> None:
    register_policy("odd")(lambda trace: result)
    _refused(PlainVGG(), SiteError, "trace.before", "odd")


@pytest.mark.usefixtures("registries")
def test_a_site_made_by_hand_is_refused() -> None:
    site = attnzoo.plan(PlainVGG(), "pre-pool", example=SIZE).sites[0]
    by_hand = type(site)(site.path, site.where, site.channels, site.height, site.width, site.stage)
    register_policy("by-hand")(lambda trace: [by_hand])
    _refused(PlainVGG(), SiteError, "trace.before", "by-hand")


@pytest.mark.usefixtures("registries")
def test_a_block_whose_constructor_raises_at_the_third_site() -> None:
    built = []

    @register_block("third-breaks")
    class ThirdBreaks(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(channels, 1, 1))
            if not self.weight.is_meta:  # not while the plan is made
                built.append(channels)
                if len(built) == 3:
                    raise ValueError("no third one")

        def forward(self, x: Tensor) -> Tensor:
            return x + self.weight

    model = BACKBONES["vgg11"]()
    _refused(
        model,
        SiteError,
        "cannot be built for 256 channels: ValueError: no third",
        "pre-pool",
        "third-breaks",
    )
    assert built == [64, 128, 256]


@pytest.mark.usefixtures("registries")
def test_a_block_whose_constructor_always_raises() -> None:
    @register_block("never")
    class Never(nn.Module):
        def __init__(self, channels: int) -> None:
            raise ZeroDivisionError("no")

    _refused(PlainVGG(), SiteError, "ZeroDivisionError: no", "pre-pool", "never")
    register_block("no-module")(lambda channels: torch.relu)
    _refused(PlainVGG(), OptionError, "nn.Module", "pre-pool", "no-module")


class _Reshaping(nn.Module):
    def __init__(self, channels: int, how: str = "pool") -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Any:
        if self.how == "pool":
            return F.avg_pool2d(x, 2)
        if self.how == "channels":
            return torch.cat([x, x], 1)
        if self.how == "tuple":
            return x, x
        if self.how == "none":
            return None
        if self.how == "batch":
            return x[:1].expand(3, -1, -1, -1)
        raise RuntimeError("cannot run")


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("how", ["pool", "channels", "tuple", "none", "batch", "raise"])
def test_a_block_that_does_not_keep_the_shape(how: str) -> None:
    register_block("reshaping")(_Reshaping)
    message = "fails on a map" if how == "raise" else "must keep the shape"
    _refused(PlainVGG(), SiteError, message, "pre-pool", "reshaping", how=how)


@pytest.mark.usefixtures("registries")
def test_a_block_that_changes_its_input_in_place() -> None:
    @register_block("in-place")
    class InPlace(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.channels = channels

        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(0.5)

    @register_block("in-place-activation")
    class InPlaceActivation(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.norm, self.act = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.act(x))

    # the identity would be taken from what the block left of x
    _refused(PlainVGG(), SiteError, "in place", "pre-pool", "in-place")
    _refused(PlainVGG(), SiteError, "in place", "pre-pool", "in-place-activation")


@pytest.mark.usefixtures("registries")
def test_a_block_that_fails_only_inside_the_model() -> None:
    @register_block("picky")
    class Picky(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(channels, 1, 1))
            self.limit = 0 if self.weight.is_meta else 9  # real blocks are the ones put in

        def forward(self, x: Tensor) -> Tensor:
            if self.limit and x.shape[1] > self.limit:
                raise RuntimeError("too many channels")
            return x + self.weight

    _refused(PlainVGG(), SurgeryError, "too many channels", "pre-pool", "picky")


class _TwoNames(nn.Module):
    """A pool registered under two names, called once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.layers = nn.ModuleList([self.conv, self.pool])
        self.dropout = self.alias = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.dropout(x)


def test_a_module_under_two_names_is_changed_under_both() -> None:
    model = _TwoNames()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, "pre-pool", example=SIZE)
    assert model.pool is model.layers[1]
    assert isinstance(model.pool, Attended)
    assert same_bits(outputs(model), before)
    _perturb(model)
    assert not same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


class _SharedPool(nn.Module):
    """One pool for all places, as many networks written by hand have it."""

    def __init__(self, act1: Any, act2: Any) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.act1, self.act2 = act1, act2
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act1(self.conv1(x)))
        return self.pool(self.act2(self.conv2(x)))


@pytest.mark.parametrize(
    ("acts", "paths"),
    [
        ((nn.ReLU(), nn.ReLU()), ["act1.attention", "act2.attention"]),
        ((F.relu, F.relu), ["conv1.attention", "conv2.attention"]),
    ],
)
def test_a_shared_pool_takes_attention_after_what_feeds_it(acts: Any, paths: list[str]) -> None:
    model = _SharedPool(*acts)
    before, untouched = outputs(model), snapshot(model)
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    assert [edit.path for edit in plan.edits] == paths
    plan.apply()
    _perturb(model)
    assert not same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_shared_pool_fed_by_no_single_module_is_left_out() -> None:
    model = _SharedPool(F.relu, lambda x: x + x.mean())
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    assert [edit.path for edit in plan.edits] == ["conv1.attention"]
    ((path, reason),) = [(skipped.path, skipped.reason) for skipped in plan.skipped]
    assert path == "pool"
    assert reason == "it is called 2 times, and no single module makes its input"
    model = _SharedPool(*[lambda x: x + x.mean()] * 2)
    _refused(model, NoSitesError, "at pool: it is called 2 times", "pre-pool")


def test_a_site_at_the_root() -> None:
    root = ("match", {"pattern": ""})
    model = PlainVGG()
    _refused(model, SiteError, "feature", root)  # its result is a matrix
    leaf = nn.Conv2d(3, 4, 3)
    _refused(leaf, SiteError, "the model itself", root)
    in_place_of = ("match", {"pattern": "", "where": "replace"})
    _refused(nn.Conv2d(3, 3, 1), SiteError, "the model itself", in_place_of)

    class Map(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x)) + 1

    for where in ("before", "after"):
        for composite in (Map(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())):
            before, untouched = outputs(composite), snapshot(composite)
            attnzoo.wrap(composite, ("match", {"pattern": "", "where": where}), example=SIZE)
            assert same_bits(outputs(composite), before)
            _perturb(composite)
            assert not same_bits(outputs(composite), before)
            assert snapshot(attnzoo.unwrap(composite)) == untouched


def test_a_sequential_iterated_by_hand_gets_no_entry() -> None:
    for policy in ("pre-pool", "post-residual", ("match", {"pattern": "model.?"})):
        model = HandIterated(3)
        before, untouched = outputs(model), snapshot(model)
        attnzoo.wrap(model, policy, example=SIZE)
        assert len(model.model) == 5
        assert same_bits(outputs(model), before)
        _perturb(model)
        assert not same_bits(outputs(model), before)
        assert snapshot(attnzoo.unwrap(model)) == untouched


class _IteratesChildren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class _IteratesItself(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x) + 0.0
        return x


class _CallsSuper(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.0


class _IteratesInAHelper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 4, 1), nn.ReLU()

    def run(self, x: Tensor) -> Tensor:
        for layer in self._modules.values():
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x) * 1.0


@pytest.mark.parametrize(
    "inner",
    [
        lambda: _IteratesChildren(),
        lambda: _IteratesInAHelper(),
        lambda: _IteratesItself(nn.Conv2d(4, 4, 1), nn.ReLU()),
        lambda: _CallsSuper(nn.Conv2d(4, 4, 1), nn.ReLU()),
    ],
    ids=["children", "helper", "itself", "super"],
)
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_block_that_runs_over_its_own_children(inner: Any, where: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 4, 1), inner()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.inner(F.relu(self.stem(x)))) * 2

    model = Model()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"pattern": "inner", "where": where}), example=SIZE)
    assert same_bits(outputs(model), before)
    _perturb(model)
    assert not same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_host_whose_attributes_are_read_is_refused() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.pool(F.relu(self.conv(x)))) * self.pool.kernel_size

    _refused(Reads(), SurgeryError, "kernel_size", "pre-pool")


def test_a_host_held_outside_the_module_tree_too_is_refused() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)
            self.steps = [self.conv, F.relu, self.pool]

        def forward(self, x: Tensor) -> Tensor:
            for step in self.steps:
                x = step(x)
            return x

    _refused(Holds(), SurgeryError, "ran 0 times", "pre-pool")


def test_a_module_called_by_keyword() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.block, self.pool = nn.Conv2d(3, 4, 3), Residual(4), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(input=self.block(x=self.conv(input=x)) * 2)

    _refused(ByName(), AttnzooError, "no single|NCHW|feature map", "pre-pool")
    model = ByName()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, "post-residual", example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_constant_first_argument_is_not_taken_for_the_map() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, weight: Tensor, x: Tensor) -> Tensor:
            return F.relu(self.conv(x)) * weight

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 4, 1), Weighted()
            self.register_buffer("weight", torch.ones(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.inner(self.weight, F.relu(self.stem(x)))) * 2

    for where in ("before", "replace"):
        _refused(
            Model(),
            SiteError,
            "exactly one feature",
            ("match", {"pattern": "inner", "where": where}),
        )
    model = Model()
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"pattern": "inner"}), example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_a_module_that_returns_a_tuple() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), TupleOutput(4), nn.MaxPool2d(2))
    _refused(model, SiteError, "no single tensor|exactly one", ("match", {"type": "Branches"}))
    before, untouched = outputs(model), snapshot(model)
    attnzoo.wrap(model, ("match", {"type": "Branches", "where": "before"}), example=SIZE)
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


# --- places that are taken -----------------------------------------------------------------------


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("plain", "pre-pool"),
        ("resnet18", "in-residual"),
        ("resnet18", "post-residual"),
        ("resnet18", "pre-pool"),
        ("timm/regnetx_002", "auto"),
        ("timm/efficientnet_b0", ("mbconv", {"position": "se"})),
        ("timm/mobilenetv3_small_050", ("mbconv", {"position": "se"})),
    ],
)
@pytest.mark.parametrize("start", ["identity", "paper"])
def test_wrapping_twice(name: str, policy: Any, start: str) -> None:
    call, options = policy if isinstance(policy, tuple) else (policy, {})
    model = BACKBONES[name]()
    attnzoo.wrap(model, policy, "se", start=start, example=SIZE)
    count = len(attnzoo.attention_modules(model))
    _refused(model, SiteError, "has attention already", policy, "eca", start=start)
    skip = (call, {**options, "occupied": "skip"})
    _refused(model, SiteError, "every place", skip, "eca", start=start)
    attnzoo.wrap(model, (call, {**options, "occupied": "stack"}), "eca", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 2 * count


@pytest.mark.parametrize(
    "policies",
    [
        ["pre-pool", "pre-pool"],
        ["pre-pool", ("match", {"pattern": "features.1"})],
        [
            ("match", {"pattern": "features.1"}),
            ("match", {"pattern": "features.2", "where": "before"}),
        ],
        [("match", {"pattern": "avgpool"}), ("match", {"pattern": "avgpool"})],
        [("match", {"pattern": "features.4", "where": "replace"})] * 2,
    ],
)
def test_one_place_named_twice(policies: Any) -> None:
    _refused(PlainVGG(), SiteError, "named twice", policies)
    second = policies[1] if isinstance(policies[1], tuple) else (policies[1], {})
    model = PlainVGG()
    skip = attnzoo.plan(
        model, [policies[0], (second[0], {**second[1], "occupied": "skip"})], example=SIZE
    )
    alone = attnzoo.plan(model, policies[0], example=SIZE)
    assert skip.sites == alone.sites


def test_skip_takes_the_places_that_are_free() -> None:
    model = BACKBONES["resnet18"]()
    attnzoo.wrap(model, ("in-residual", {"stages": 2}), example=SIZE)
    attnzoo.wrap(model, ("in-residual", {"occupied": "skip"}), "se", example=SIZE)
    assert [m.name for m in model.modules() if isinstance(m, Attention)] == ["local"] * 2 + [
        "se"
    ] * 6


# --- a plan and the model it was made for ---------------------------------------------------------


def test_a_plan_for_a_model_that_was_changed() -> None:
    model = PlainVGG()
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    model.classifier = nn.Sequential(nn.Linear(64, 5))
    untouched = snapshot(model)
    with pytest.raises(SurgeryError, match="changed after this plan"):
        plan.apply()
    assert snapshot(model) == untouched


def test_a_plan_for_a_layer_that_was_exchanged() -> None:
    model = PlainVGG()
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    model.features[0] = nn.Conv2d(3, 8, 5, padding=0)
    untouched = snapshot(model)
    with pytest.raises(SurgeryError):
        plan.apply()
    assert snapshot(model) == untouched


def test_a_plan_is_applied_once() -> None:
    plan = attnzoo.plan(PlainVGG(), "pre-pool", example=SIZE)
    wrapped = snapshot(plan.apply())
    with pytest.raises(SurgeryError, match="new plan"):
        plan.apply()
    assert snapshot(plan.model) == wrapped


# --- modules put aside ---------------------------------------------------------------------------


def _replaced(start: str) -> tuple[nn.Module, Replaced, str]:
    model = BACKBONES["timm/mobilenetv3_small_050"]()
    attnzoo.wrap(model, ("mbconv", {"position": "se"}), "eca", start=start, example=SIZE)
    path, replaced = next((p, m) for p, m in model.named_modules() if isinstance(m, Replaced))
    return model, replaced, path


def test_a_replaced_module_is_put_aside_and_follows() -> None:
    model, replaced, path = _replaced("paper")
    assert not any(key.startswith(f"{path}.conv") for key in model.state_dict())
    aside = replaced.original
    assert all(aside is not module for module in model.modules())
    model.to(torch.float64)
    assert {p.dtype for p in aside.parameters()} == {torch.float64}
    model.eval()
    assert not any(module.training for module in aside.modules())
    model.train()
    assert all(module.training for module in aside.modules())
    model.to("meta")
    assert all(p.is_meta for p in aside.parameters())
    assert attnzoo.unwrap(model).get_submodule(path) is aside


def test_gamma_fades_from_the_module_to_the_block() -> None:
    _, replaced, _ = _replaced("identity")
    x = torch.rand(1, replaced.attention.channels, 4, 4)
    with torch.no_grad():
        assert same_bits(replaced(x), replaced.original(x))
        replaced.attention.gamma.fill_(1.0)
        torch.testing.assert_close(replaced(x), replaced.attention.block(x))


def test_a_module_that_changes_the_shape_is_not_replaced() -> None:
    where = {"pattern": "features.0", "where": "replace"}
    _refused(PlainVGG(), SiteError, "cannot take its place", ("match", where))


def _perturb(model: nn.Module) -> None:
    """Let attention in: give every γ a value."""
    gammas = [m.gamma for m in model.modules() if isinstance(m, Attention)]
    assert gammas
    with torch.no_grad():
        for gamma in gammas:
            gamma.fill_(0.5)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", [n for n in BACKBONES if n != "vgg11"])
def test_every_block_has_an_effect_once_gamma_is_set(name: str) -> None:
    model = BACKBONES[name]()
    attnzoo.wrap(model, ["auto", ("stage-end", {"occupied": "skip"})], "se", example=SIZE)
    before = outputs(model)
    for path, module in model.named_modules():
        if isinstance(module, Attention):
            with torch.no_grad():
                module.gamma.fill_(-3.0)
                changed = not same_bits(outputs(model, example()), before)
                module.gamma.zero_()
            assert changed, path


def test_a_large_network_on_meta_takes_no_memory() -> None:
    script = """
        import resource, sys, timm, torch, torchvision, attnzoo

        def peak():  # bytes
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most * (1 if sys.platform == "darwin" else 1024)

        attnzoo.wrap(torchvision.models.squeezenet1_1())  # what first calls load
        with torch.device("meta"):
            model = timm.create_model("regnety_2560")
        assert sum(p.numel() for p in model.parameters()) > 1e9
        before = peak()
        attnzoo.plan(model, "post-residual", "local")
        attnzoo.wrap(model, "post-residual", "local")
        assert all(p.is_meta for p in model.parameters())
        print(peak() - before)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200e6
