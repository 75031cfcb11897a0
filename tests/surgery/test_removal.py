"""`unwrap` takes out what is there, and says what is gone, whatever was done to the model since."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from zoo import BACKBONES, PlainVGG, Residual, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import NotWrappedError
from attnzoo.hosts.attention import Attended, Attention, Replaced

SIZE = (3, 64, 64)
STACK: dict[str, Any] = {"occupied": "stack"}


def _resnet() -> nn.Module:
    return torchvision.models.resnet18(num_classes=5)


def _cut(model: nn.Module) -> None:
    model.layer4 = nn.Identity()
    model.fc = nn.Linear(256, 10)


def _rename(model: nn.Module) -> None:
    model.stage4 = model.layer4
    model.layer4 = nn.Identity()


def _delete(model: nn.Module) -> None:
    del model.layer2[1]


def _move(model: nn.Module) -> None:
    model.body = nn.Sequential(model.layer1, nn.Sequential(model.layer2, model.layer3))
    model.layer1 = model.layer2 = model.layer3 = nn.Identity()


CHANGES: dict[str, tuple[Callable[[nn.Module], None], int]] = {
    "cut": (_cut, 2),
    "renamed": (_rename, 0),
    "deleted": (_delete, 1),
    "moved": (_move, 0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("policy", ["in-residual", "post-residual"])
def test_what_is_left_comes_out_after_the_network_was_changed(change: str, policy: str) -> None:
    alter, gone = CHANGES[change]
    model = attnzoo.wrap(_resnet(), policy, "se", example=SIZE)
    alter(model)
    if gone:
        with pytest.warns(UserWarning, match=rf"{gone} of 8 attentions .* no longer in ResNet"):
            attnzoo.unwrap(model)
    else:
        attnzoo.unwrap(model)
    assert not any(isinstance(module, Attention) for module in model.modules())
    assert attnzoo.recipes(model) == []
    plain = _resnet()
    if (change, policy) != ("deleted", "post-residual"):  # entry 1 was attention
        alter(plain)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in model.modules()] == [type(m) for m in plain.modules()]
    with pytest.raises(NotWrappedError):
        attnzoo.unwrap(model)


def test_an_entry_of_ours_that_was_deleted() -> None:
    model = attnzoo.wrap(PlainVGG(), "pre-pool", "se", example=SIZE)
    del model.features[2]
    with pytest.warns(UserWarning, match=r"1 of 2 .*features\.attn_pre_2"):
        attnzoo.unwrap(model)
    assert list(model.state_dict()) == list(PlainVGG().state_dict())


def test_a_shallow_copy_that_was_unwrapped_first() -> None:
    model = attnzoo.wrap(_resnet(), ["in-residual", "pre-pool"], "se", example=SIZE)
    attnzoo.unwrap(copy.copy(model))
    with pytest.warns(UserWarning, match="8 of 9"):
        attnzoo.unwrap(model)
    assert list(model.state_dict()) == list(_resnet().state_dict())
    assert type(model.maxpool) is nn.MaxPool2d


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("name", ["resnet18", "timm/regnetx_002", "timm/mobilenetv3_small_050"])
def test_copies_are_unwrapped_on_their_own(how: Callable[[Any], Any], name: str) -> None:
    model = BACKBONES[name]()
    before, keys = outputs(model), list(model.state_dict())
    attnzoo.wrap(model, ["auto", ("stage-end", {"occupied": "skip"})], "se", example=SIZE)
    wrapped = snapshot(model)
    other = attnzoo.unwrap(how(model))
    assert list(other.state_dict()) == keys
    assert same_bits(outputs(other), before)
    assert snapshot(model) == wrapped


class _Own(Residual):
    """A block that makes its copies itself, and forgets hooks."""

    def __deepcopy__(self, memo: Any) -> _Own:
        made = _Own(8)
        made.load_state_dict(self.state_dict(), strict=False)
        return made


class _Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 1), inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.stem(x)).relu() * 2


def test_a_block_that_copies_itself_is_wrapped_and_not_hooked() -> None:
    model = _Holder(_Own(8))
    attnzoo.wrap(model, ("match", {"pattern": "inner"}), "se", example=SIZE)
    assert isinstance(model.inner, Attended)
    model.inner.attention.gamma.data.fill_(1.0)
    other = copy.deepcopy(model)
    assert same_bits(outputs(other), outputs(model))
    assert type(attnzoo.unwrap(other).inner) is _Own


def test_a_graph_module_is_wrapped_and_not_hooked() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.relu(self.a(x))

    model = _Holder(torch.fx.symbolic_trace(Inner()))
    before = outputs(model)
    attnzoo.wrap(model, "post-residual", "se", example=SIZE)
    assert same_bits(outputs(model), before)
    for module in model.modules():
        if isinstance(module, Attention):
            module.gamma.data.fill_(1.0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert len(attnzoo.attention_modules(other)) == 1
        assert same_bits(outputs(other), outputs(model))
        assert same_bits(outputs(attnzoo.unwrap(other)), before)
    alone = torch.fx.symbolic_trace(Inner())
    with pytest.raises(attnzoo.errors.SiteError, match="the model itself"):
        attnzoo.wrap(alone, ("match", {"pattern": ""}), "se", example=(8, 4, 4))


def test_a_hook_that_a_copy_lost_is_not_missed() -> None:
    model = attnzoo.wrap(_Holder(Residual(8)), "post-residual", "se", example=SIZE)
    keys = list(_Holder(Residual(8)).state_dict())
    for lose in ("_attnzoo_handles", "_forward_hooks"):
        other = copy.deepcopy(model)
        assert other.inner.attn_out.name == "se"
        if lose == "_forward_hooks":
            other.inner._forward_hooks.clear()
        del vars(other.inner)["_attnzoo_handles"]
        attnzoo.unwrap(other)
        assert not other.inner._forward_hooks
        assert list(other.state_dict()) == keys


def test_attention_that_was_moved_elsewhere_leaves_an_identity() -> None:
    model = attnzoo.wrap(PlainVGG(), "pre-pool", "se", example=SIZE)
    model.extra = nn.ModuleList([model.features.attn_pre_2])
    attnzoo.unwrap(model)
    assert type(model.extra[0]) is nn.Identity
    assert not any(isinstance(module, Attention) for module in model.modules())


# --- a part and the whole -------------------------------------------------------------------------


class _Whole(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.stem, self.part = nn.Conv2d(3, 8, 3, padding=1), part
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.part(self.stem(x))).relu() * 2


PARTS: dict[str, tuple[Callable[[], nn.Module], Any, Any]] = {
    "hook": (
        lambda: Residual(8),
        ("match", {"pattern": ""}),
        ("match", {"pattern": "part", **STACK}),
    ),
    "slot": (
        lambda: nn.Sequential(timm.models.resnet.BasicBlock(8, 8)),
        "in-residual",
        ("in-residual", STACK),
    ),
    "subclass": (
        lambda: nn.Sequential(torchvision.models.resnet.BasicBlock(8, 8)),
        "in-residual",
        ("in-residual", STACK),
    ),
    "insert": (
        lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()),
        ("match", {"type": "Conv2d"}),
        ("match", {"pattern": "part.0", **STACK}),
    ),
    "wrap": (
        lambda: Residual(8),
        ("match", {"pattern": "conv1"}),
        ("match", {"pattern": "part.conv1", **STACK}),
    ),
    "replace": (
        lambda: Residual(8),
        ("match", {"pattern": "conv1", "where": "replace"}),
        ("match", {"pattern": "part.conv1*", "type": "Replaced", **STACK}),
    ),
}


@pytest.mark.parametrize("order", ["part first", "whole first", "whole only"])
@pytest.mark.parametrize("start", ["identity", "paper"])
@pytest.mark.parametrize("kind", PARTS)
def test_a_part_and_the_whole_at_one_place(kind: str, start: Any, order: str) -> None:
    build, on_part, on_whole = PARTS[kind]
    model = _Whole(build())
    untouched = snapshot(model)
    at_part: Any = {"start": start, "example": (8, 64, 64)}
    attnzoo.wrap(model.part, on_part, "se", **at_part)
    with_part = len(attnzoo.attention_modules(model))
    attnzoo.wrap(model, on_whole, "eca", start=start, example=SIZE)
    both = len(attnzoo.attention_modules(model))
    assert both > with_part >= 1
    if order == "whole only":
        attnzoo.unwrap(model)
        assert snapshot(model) == untouched
        return
    if order == "part first":
        attnzoo.unwrap(model.part)
        names = {module.name for module in model.modules() if isinstance(module, Attention)}
        assert names == {"eca"}
        assert outputs(model).isfinite().all()
    attnzoo.unwrap(model)
    assert snapshot(model) == untouched
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE)
        attnzoo.unwrap(model)
    assert snapshot(model) == untouched


def test_attention_around_a_replaced_module_goes_around_it_again() -> None:
    model = _Whole(Residual(8))
    replace = ("match", {"pattern": "conv1", "where": "replace"})
    attnzoo.wrap(model.part, replace, "se", example=(8, 64, 64))
    replaced = model.part.conv1
    assert isinstance(replaced, Replaced)
    inner = replaced.attention
    around = Attended(inner, Attention(attnzoo.create_block("eca", 8), "eca", 8, step=9), "after")
    replaced.attention = around
    attnzoo.unwrap(model.part)
    assert model.part.conv1 is around
    assert type(around.host) is nn.Conv2d
