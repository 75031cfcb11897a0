"""Each edit applies, runs once, and undoes itself."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn
from zoo import PlainVGG, Residual, example, outputs, same_bits, snapshot

from attnzoo.blocks import SqueezeExcitation
from attnzoo.hosts.attention import Attended, Attention, Replaced
from attnzoo.surgery.changes import Changes
from attnzoo.surgery.edits import Edit, Hook, Insert, Replace, Slot, Subclass, Wrap
from attnzoo.surgery.removal import take_out


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.slotted = torchvision.models.resnet.BasicBlock(8, 8)
        self.empty = timm.models.resnet.BasicBlock(8, 8)
        self.block = Residual(8)
        self.act = self.alias = nn.ReLU()
        self.last = nn.ModuleDict({"conv": nn.Conv2d(8, 8, 1), "same": self.act})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.empty(self.slotted(self.stem(x)))
        return self.last["conv"](self.act(self.block(x)))


BASIC = "torchvision.models.resnet.BasicBlock"
EDITS: list[tuple[Edit, str]] = [
    (Slot("empty", "se"), "empty.se"),
    (
        Subclass("slotted", "attn", BASIC, "attnzoo.hosts.slotted.AttendedBasicBlock"),
        "slotted.attn",
    ),
    (Insert("stem", "attn_pre_0", "0", "before"), "stem.attn_pre_0"),
    (Insert("stem", "attn_post_1", "1", "after"), "stem.attn_post_1"),
    (Insert("stem", "attn_post_2", "2", "after"), "stem.attn_post_2"),
    (Hook("block", "after"), "block.attn_out"),
    (Hook("block", "before"), "block.attn_in"),
    (Hook("", "after"), "attn_out"),
    (Wrap(("act", "alias", "last.same"), "before"), "act.attention"),
    (Wrap(("act", "alias", "last.same"), "after"), "act.attention"),
    (Wrap(("last.conv",), "after"), "last.conv.attention"),
    (Replace(("block",)), "block.attention"),
    (Replace(("act", "alias", "last.same")), "act.attention"),
]


def _apply(edit: Edit, model: nn.Module, attention: Attention) -> None:
    changes = Changes(model)
    edit.apply(changes, attention)
    changes.commit()


def _undo(edit: Edit, model: nn.Module) -> None:
    attention = model.get_submodule(edit.path)
    assert isinstance(attention, Attention)
    changes = Changes(model)
    take_out(changes, [attention])
    changes.commit()


def _attention(edit: Edit, *, gamma: bool = True) -> Attention:
    channels = 3 if isinstance(edit, Insert) and edit.anchor == "0" else 8
    return Attention(SqueezeExcitation(channels), "se", channels, gamma=gamma)


@pytest.mark.parametrize(("edit", "path"), EDITS, ids=[str(edit) for edit, _ in EDITS])
@pytest.mark.parametrize("gamma", [True, False])
def test_every_edit_applies_runs_once_and_undoes_itself(edit: Edit, path: str, gamma: bool) -> None:
    model = Model().eval()
    before, untouched, keys = outputs(model), snapshot(model), list(model.state_dict())
    attention = _attention(edit, gamma=gamma)
    ran = []
    attention.register_forward_hook(lambda *_: ran.append(1))
    _apply(edit, model, attention)
    assert edit.path == path
    assert model.get_submodule(path) is attention
    after = outputs(model)
    assert ran == [1]
    assert same_bits(after, before) == gamma
    kept = [key for key in model.state_dict() if key in keys]
    assert kept == [key for key in keys if key in kept]
    _undo(edit, model)
    assert snapshot(model) == untouched
    assert same_bits(outputs(model), before)


@pytest.mark.parametrize(("edit", "path"), EDITS, ids=[str(edit) for edit, _ in EDITS])
def test_an_edit_undoes_itself_in_a_copy(edit: Edit, path: str) -> None:
    model = Model()
    before, keys = outputs(model), list(model.state_dict())
    types = {name: type(module) for name, module in model.named_modules()}
    _apply(edit, model, _attention(edit))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        _undo(edit, copied)
        assert {name: type(module) for name, module in copied.named_modules()} == types
        assert list(copied.state_dict()) == keys
        assert same_bits(outputs(copied), before)
        assert copied.act is copied.alias is copied.last["same"]
    assert model.get_submodule(path).name == "se"


def test_two_hooks_on_one_host_are_undone_one_by_one() -> None:
    model = Model()
    untouched = snapshot(model)
    before, after = Hook("block", "before"), Hook("block", "after")
    _apply(before, model, _attention(before))
    _apply(after, model, _attention(after))
    _undo(before, model)
    assert not hasattr(model.block, "attn_in")
    assert model.block.attn_out.name == "se"
    outputs(model)
    _undo(after, model)
    assert snapshot(model) == untouched


def test_the_hooks_of_others_stay() -> None:
    model = Model()
    seen: list[int] = []
    model.block.register_forward_hook(lambda *_: seen.append(1))
    edit = Hook("block", "after")
    _apply(edit, model, _attention(edit))
    model.block.register_forward_hook(lambda *_: seen.append(2))
    outputs(model)
    assert seen == [1, 2]
    _undo(edit, model)
    outputs(model)
    assert seen == [1, 2, 1, 2]


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_wrapped_layer_runs_with_all_its_arguments(where: str) -> None:
    class Scale(nn.Module):
        def forward(self, x: torch.Tensor, factor: float, *, shift: float = 0.0) -> torch.Tensor:
            return x * factor + shift

    wrapped = Attended(Scale(), Attention(SqueezeExcitation(3), "se", 3), where)
    x = example()
    assert torch.equal(wrapped(x, 2.0, shift=1.0), x * 2 + 1)


def test_plain_keys_load_into_a_wrapper() -> None:
    for make in (
        lambda host, attention: Attended(host, attention, "after"),
        lambda host, attention: Replaced(host, attention),
    ):
        host = Residual(4)
        plain = {f"inner.{key}": torch.rand_like(v.float()) for key, v in host.state_dict().items()}
        model = nn.ModuleDict({"inner": make(host, Attention(SqueezeExcitation(4), "se", 4))})
        report = model.load_state_dict(plain, strict=False)
        assert report.unexpected_keys == []
        assert all(".attention." in key for key in report.missing_keys)
        assert torch.equal(host.conv1.weight, plain["inner.conv1.weight"])
        own = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
        model.load_state_dict(own)
        assert host.conv1.weight.abs().sum() == 0


def test_modes_of_wrappers() -> None:
    for training in (True, False):
        model = PlainVGG()
        model.features[2].train(training)
        edit = Wrap(("features.2",), "before")
        attention = Attention(SqueezeExcitation(8), "se", 8).train(not training)
        _apply(edit, model, attention)
        assert model.features[2].training is training
        assert attention.training is not training
        assert model.training


def test_what_attention_says_about_itself() -> None:
    attention = Attention(SqueezeExcitation(8), "se", 8)
    assert "'se', 8, start='identity'" in repr(attention)
    assert "'se', 8, start='paper'" in repr(Attention(SqueezeExcitation(8), "se", 8, gamma=False))
    assert next(iter(attention.state_dict())) == "gamma"
    assert not any("gamma" in key for key in Attention(nn.ReLU(), "x", 8, gamma=False).state_dict())
