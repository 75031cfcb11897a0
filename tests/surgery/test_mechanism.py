"""Which mechanism each site gets, and what it leaves as it was."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, Branches, PlainVGG, Residual, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import SiteError
from attnzoo.surgery.plan import Plan

SIZE = (3, 64, 64)
SE = ("mbconv", {"position": "se"})


def _meta(name: str) -> nn.Module:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet's, on its initialisation
        if name.startswith("timm/"):
            return timm.create_model(name.removeprefix("timm/"))
        return torchvision.models.get_model(name)


def _plan(name: str, policy: Any) -> Plan:
    return attnzoo.plan(_meta(name), policy, "none", example=SIZE)


#: (network, policy) → (sites, how they get there)
EXPECTED: list[tuple[str, Any, int, dict[str, int]]] = [
    ("vgg16", "pre-pool", 5, {"insert": 5}),
    ("vgg16", "auto", 5, {"insert": 5}),
    ("vgg16_bn", "pre-pool", 5, {"insert": 5}),
    ("vgg16", "stage-end", 5, {"insert": 5}),
    ("alexnet", "pre-pool", 3, {"insert": 3}),
    ("squeezenet1_1", "pre-pool", 3, {"insert": 3}),
    ("resnet50", "post-residual", 16, {"insert": 16}),
    ("resnet50", "auto", 16, {"insert": 16}),
    ("resnet50", "in-residual", 16, {"slot": 16}),
    ("resnet50", "pre-pool", 1, {"wrap": 1}),
    ("resnet50", "stage-end", 5, {"insert": 4, "wrap": 1}),
    ("timm/resnet50", "post-residual", 16, {"insert": 16}),
    ("timm/resnet50", "in-residual", 16, {"slot": 16}),
    ("timm/resnet50", "stage-end", 5, {"insert": 4, "wrap": 1}),
    ("timm/seresnet50", "in-residual", 16, {"hook": 16}),
    ("densenet121", "transition", 3, {"insert": 3}),
    ("densenet121", "auto", 3, {"insert": 3}),
    ("densenet121", "pre-pool", 4, {"insert": 4}),
    ("timm/densenet121", "transition", 3, {"insert": 3}),
    # its feature maps are found by position in `features`: no entry may be added there
    ("timm/densenet121", "pre-pool", 4, {"insert": 3, "wrap": 1}),
    ("efficientnet_b0", "mbconv", 16, {"insert": 16}),
    ("efficientnet_b0", "auto", 16, {"insert": 16}),
    ("efficientnet_b0", SE, 16, {"replace": 16}),
    ("timm/efficientnet_b0", "mbconv", 16, {"insert": 16}),
    ("timm/efficientnet_b0", SE, 16, {"replace": 16}),
    ("mobilenet_v2", "mbconv", 17, {"insert": 17}),
    ("mobilenet_v2", SE, 17, {"insert": 17}),
    ("mobilenet_v2", "in-residual", 10, {"insert": 10}),
    ("timm/mobilenetv2_100", "mbconv", 17, {"insert": 17}),
    ("timm/mobilenetv3_small_050", "mbconv", 11, {"insert": 11}),
    ("mobilenet_v3_small", "mbconv", 11, {"insert": 11}),
    ("timm/convnext_atto", "post-residual", 12, {"insert": 12}),
    ("timm/convnext_atto", "stage-end", 4, {"insert": 4}),
    ("timm/regnetx_002", "post-residual", 13, {"hook": 13}),
    ("timm/regnetx_002", "in-residual", 13, {"hook": 13}),
    ("timm/mambaout_femto", "post-residual", 18, {"insert": 18}),
    # inception modules pool too, with stride 1: that is no change of resolution
    ("googlenet", "pre-pool", 4, {"hook": 4}),
]


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "policy", "count", "mechanisms"), EXPECTED, ids=[f"{e[0]}-{e[1]}" for e in EXPECTED]
)
def test_sites_and_mechanisms(
    name: str, policy: Any, count: int, mechanisms: dict[str, int]
) -> None:
    plan = _plan(name, policy)
    assert len(plan.sites) == count
    assert Counter(edit.mechanism for edit in plan.edits) == mechanisms


def test_channels_of_the_reference_sites() -> None:
    assert [s.channels for s in _plan("vgg16", "pre-pool").sites] == [64, 128, 256, 512, 512]
    assert [s.stage for s in _plan("vgg16", "pre-pool").sites] == [1, 2, 3, 4, 5]
    transitions = _plan("densenet121", "transition").sites
    assert [s.channels for s in transitions] == [128, 256, 512]
    ends = _plan("resnet50", "stage-end").sites
    assert [s.channels for s in ends] == [64, 256, 512, 1024, 2048]
    assert [s.height for s in ends] == [32, 16, 8, 4, 2]
    assert {s.axes for s in _plan("timm/mambaout_femto", "post-residual").sites} == {"NHWC"}
    assert {s.axes for s in _plan("timm/convnext_atto", "post-residual").sites} == {"NCHW"}


@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "policy", "mechanisms"), [(e[0], e[1], e[3]) for e in EXPECTED])
def test_keys_and_types_stay_where_the_mechanism_says_so(
    name: str, policy: Any, mechanisms: dict[str, int]
) -> None:
    model = _meta(name)
    keys, types = list(model.state_dict()), {p: type(m) for p, m in model.named_modules()}
    plan = attnzoo.plan(model, policy, "se", example=SIZE)
    stateful = {
        p for edit in plan.edits if edit.mechanism in ("wrap", "replace")
        for p in edit.hosts
        if any(key.startswith(f"{p}.") for key in keys)
    }  # fmt: skip
    plan.apply()
    now = list(model.state_dict())
    kept = [key for key in keys if not any(key.startswith(f"{p}.") for p in stateful)]
    assert [key for key in now if key in set(keys)] == kept
    # what is new is attention's own, or a wrapped layer's under `host`
    for key in set(now) - set(keys):
        moved = any(key.startswith(f"{p}.host.") for p in stateful)
        assert moved or any(key.startswith(f"{edit.path}.") for edit in plan.edits), key
    wrapped = {
        p for edit in plan.edits if edit.mechanism in ("wrap", "replace") for p in edit.hosts
    }
    for path, module in model.named_modules():
        if path in types and path not in wrapped:
            assert isinstance(module, types[path]), path


class _Tail(nn.Module):
    """Runs `inner` between two convolutions that no mechanism can use as anchors."""

    def __init__(self, inner: nn.Module, channels: int = 4) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, channels, 3, padding=1), inner

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(F.relu(self.stem(x)))) * 2 + 1


def _edit(model: nn.Module, policy: Any) -> Any:
    before, untouched = outputs(model), snapshot(model)
    plan = attnzoo.plan(model, policy, "se", example=SIZE)
    (edit,) = plan.edits
    plan.apply()
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched
    return edit


def test_a_child_of_that_name_gets_no_second_one() -> None:
    block = Residual(4)
    block.attn_out = nn.Identity()
    edit = _edit(_Tail(block), ("match", {"pattern": "inner"}))
    assert (edit.mechanism, edit.path) == ("wrap", "inner.attention")
    model = PlainVGG()
    model.features.register_module("attn_pre_2", nn.Identity())
    edit = _edit(model, ("match", {"pattern": "features.2", "where": "before"}))
    assert edit.path == "features.attn_pre_2_2"


def test_an_attribute_of_a_slots_name_keeps_the_class() -> None:
    for change in ({"attn": None}, {"forward": None}):
        block = torchvision.models.resnet.BasicBlock(4, 4)
        for name, value in change.items():
            setattr(block, name, value if name == "attn" else type(block).forward.__get__(block))
        assert _edit(_Tail(block), "in-residual").mechanism == "wrap"

    class Derived(torchvision.models.resnet.BasicBlock):
        pass

    assert _edit(_Tail(Derived(4, 4)), "in-residual").mechanism == "wrap"
    assert (
        _edit(_Tail(torchvision.models.resnet.BasicBlock(4, 4)), "in-residual").mechanism == "slot"
    )


def test_the_slot_of_timm_is_taken_only_where_it_is_empty() -> None:
    block = timm.models.resnet.BasicBlock(4, 4)
    assert _edit(_Tail(block), "in-residual").mechanism == "slot"
    full = timm.models.resnet.BasicBlock(4, 4, attn_layer="se")
    edit = _edit(_Tail(full), "in-residual")
    assert edit.mechanism != "slot"
    assert edit.path.startswith("inner.se.") or edit.path.startswith("inner.drop_path.")


def test_no_entry_where_positions_matter() -> None:
    class Indexes(_Tail):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.inner[0].out_channels

    class Plain(_Tail):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 1.0

    for make, mechanism in ((Indexes, "wrap"), (Plain, "insert")):
        model = make(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))
        assert _edit(model, ("match", {"pattern": "inner.0"})).mechanism == mechanism


def test_a_sequential_called_twice_gets_no_entry() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
            self.last = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            return self.last(self.inner(self.inner(x) * 2) * 2) * 2

    model = Twice()
    untouched = snapshot(model)
    for pattern in ("inner", "inner.0", "inner.1"):
        with pytest.raises(SiteError, match="called 2 times"):
            attnzoo.wrap(
                model, ("match", {"pattern": pattern, "stages": 1, "every": 2}), example=SIZE
            )
        assert snapshot(model) == untouched


def test_a_layer_shared_within_a_sequential_has_two_places() -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 6, 1), act, nn.MaxPool2d(2))
    before, untouched = outputs(model), snapshot(model)
    plan = attnzoo.plan(model, ("match", {"type": "ReLU"}), "se", example=SIZE)
    assert [edit.path for edit in plan.edits] == ["attn_post_1", "attn_post_3"]
    assert [site.channels for site in plan.sites] == [4, 6]
    plan.apply()
    assert same_bits(outputs(model), before)
    assert snapshot(attnzoo.unwrap(model)) == untouched


def test_before_a_module_is_for_that_module_alone() -> None:
    class Fork(nn.Module):
        """One map read by a pool and by a convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pool = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.MaxPool2d(2)
            self.side = nn.Conv2d(4, 4, 2, stride=2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.stem(x)
            return self.pool(x), self.side(x)

    model, x = Fork().eval(), torch.randn(1, 3, 8, 8)
    pool, side = model(x)
    plan = attnzoo.plan(model, "pre-pool", "se", start="paper", example=SIZE)
    assert [edit.path for edit in plan.edits] == ["pool.attention"]  # not after the stem
    plan.apply()
    assert not same_bits(model(x)[0], pool)
    assert same_bits(model(x)[1], side)
    attnzoo.unwrap(model)
    attnzoo.wrap(model, ("match", {"pattern": "stem"}), "se", start="paper", example=SIZE)
    assert not same_bits(model(x)[0], pool)
    assert not same_bits(model(x)[1], side)


def test_two_pools_on_one_map_have_a_place_each() -> None:
    class TwoPools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.most, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return torch.cat([self.most(x), self.mean(x)], 1)

    model = TwoPools()
    before = outputs(model)
    plan = attnzoo.plan(model, "pre-pool", "se", example=SIZE)
    assert [edit.path for edit in plan.edits] == ["most.attention", "mean.attention"]
    assert same_bits(outputs(plan.apply()), before)


def test_drop_path_keeps_attention_inside_the_branch() -> None:
    model = timm.create_model("efficientnet_b0", num_classes=10, drop_path_rate=0.2)
    plan = attnzoo.plan(model, "in-residual", "se", example=SIZE)
    assert all(edit.path.endswith(".drop_path.attention") for edit in plan.edits)
    assert len(plan.edits) == 9
    assert {site.where for site in plan.sites} == {"before"}


def test_a_module_that_returns_a_tuple_is_no_host() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 4, 1), Branches(4)

        def forward(self, x: Tensor) -> Tensor:
            y, mean = self.inner(F.relu(self.stem(x)))
            return F.relu(y) * mean[:, :, None, None]

    assert _edit(Model(), ("match", {"pattern": "inner", "where": "before"})).mechanism == "hook"


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18"])
def test_slots_compute_what_the_class_computed(name: str) -> None:
    model = BACKBONES[name]().train()
    twin = BACKBONES[name]().train()
    twin.load_state_dict(model.state_dict())
    attnzoo.wrap(model, "in-residual", "none", example=SIZE)
    x = torch.randn(2, 3, 64, 64)
    one, other = model(x), twin(x)
    assert same_bits(one, other)
    one.sum().backward()
    other.sum().backward()
    for (key, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert same_bits(a.grad, b.grad), key


def test_slotted_bottleneck_computes_what_the_class_computed() -> None:
    block = torchvision.models.resnet.Bottleneck(8, 4, 1, nn.Conv2d(8, 16, 1))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), block.eval())
    block = torchvision.models.resnet.Bottleneck(16, 4)
    model.append(block)
    before = outputs(model)
    attnzoo.wrap(model, "in-residual", "se", example=SIZE)
    assert isinstance(block, torchvision.models.resnet.Bottleneck)
    assert type(block).__name__ == "AttendedBottleneck"
    assert same_bits(outputs(model), before)
    assert type(attnzoo.unwrap(model)[2]) is torchvision.models.resnet.Bottleneck
