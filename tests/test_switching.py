"""Several attentions on one network: each switched on and off, or taken out, by its name."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from zoo import EVERY_MECHANISM, SIZE, AllMechanisms

import attnzoo
from attnzoo.errors import NotWrappedError, OptionError, UnknownNameError
from attnzoo.hosts import Attention

STACKED = ("in-residual", {"occupied": "stack"})
X = torch.randn(2, 3, 64, 64)


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=5).eval()


def two() -> nn.Module:
    model = attnzoo.wrap(resnet(), "in-residual", "se", start="paper", name="a")
    return attnzoo.wrap(model, STACKED, "spatial", start="paper", name="b")


def alone(name: str, block: str, both: nn.Module) -> nn.Module:
    """The network with one of the two, and its weights."""
    model = attnzoo.wrap(resnet(), "in-residual", block, start="paper", name=name)
    theirs = [m for m in both.modules() if isinstance(m, Attention) and m.insertion == name]
    ours = [m for m in model.modules() if isinstance(m, Attention)]
    for one, other in zip(ours, theirs, strict=True):
        one.load_state_dict(other.state_dict())
    return model


def test_one_of_two_acts_as_if_it_were_alone():
    model = two()
    assert attnzoo.insertions(model) == {"a": True, "b": True}
    together = model(X)
    for name, block in (("a", "se"), ("b", "spatial")):
        assert attnzoo.switch(model, name) is model
        assert torch.equal(model(X), alone(name, block, model)(X))
    attnzoo.switch(model, None)
    assert torch.equal(model(X), resnet()(X))
    attnzoo.switch(model, ["a", "b"])
    assert torch.equal(model(X), together)


def test_disabled_ends_as_it_began():
    model = attnzoo.switch(two(), "b")
    before = model(X)

    def fails() -> None:
        with attnzoo.disabled(model) as same:
            assert same is model
            assert torch.equal(model(X), resnet()(X))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert torch.equal(model(X), before)
    assert attnzoo.insertions(model) == {"a": False, "b": True}


@pytest.mark.parametrize("start", ["paper", "identity"])
def test_with_each_mechanism_it_is_the_plain_network(start: str):
    torch.manual_seed(0)
    plain = AllMechanisms().eval()
    model = copy.deepcopy(plain)
    attnzoo.wrap(model, EVERY_MECHANISM, "conv", start=start, example=SIZE)
    for module in model.modules():
        if isinstance(module, Attention) and module.gamma is not None:
            nn.init.ones_(module.gamma)
    x = torch.randn(1, *SIZE)
    assert not torch.equal(model(x), plain(x))
    with attnzoo.disabled(model):
        assert torch.equal(model(x), plain(x))


def test_what_is_compiled_is_compiled_anew():
    model = two()
    compiled = torch.compile(model, backend="eager")
    together = compiled(X)
    with attnzoo.disabled(compiled):
        assert torch.equal(compiled(X), resnet()(X))
    assert torch.equal(compiled(X), together)


def test_copies_and_files_know_the_names(tmp_path: Path):
    model = attnzoo.switch(two(), "b")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert attnzoo.insertions(again) == {"a": False, "b": True}
    attnzoo.save(model, tmp_path / "both.safetensors")
    loaded = attnzoo.load(tmp_path / "both.safetensors", resnet())
    assert attnzoo.insertions(loaded) == {"a": True, "b": True}
    attnzoo.switch(loaded, "b")
    assert torch.equal(loaded(X), model(X))


@pytest.mark.parametrize(("name", "other", "block"), [("a", "b", "spatial"), ("b", "a", "se")])
def test_one_comes_out_and_the_other_stays(name: str, other: str, block: str):
    model = two()
    expected = alone(other, block, model)
    assert attnzoo.unwrap(model, name) is model
    assert torch.equal(model(X), expected(X))
    assert [recipe.name for recipe in attnzoo.recipes(model)] == [other]
    attnzoo.unwrap(model, other)
    assert list(model.state_dict()) == list(resnet().state_dict())
    assert torch.equal(model(X), resnet()(X))


def test_names_that_are_not_there_are_told():
    model = two()
    with pytest.raises(UnknownNameError, match=r"no insertion 'c', but 'a', 'b'"):
        attnzoo.switch(model, "c")
    with pytest.raises(UnknownNameError, match=r"no insertion 'c', but 'a', 'b'"):
        attnzoo.unwrap(model, "c")
    assert attnzoo.insertions(model) == {"a": True, "b": True}
    with pytest.raises(NotWrappedError, match="holds no attention"):
        attnzoo.switch(resnet(), None)
    for wrong in ("", 3):
        with pytest.raises(OptionError, match="must be a text"):
            attnzoo.wrap(resnet(), "in-residual", "se", name=wrong)


def test_files_of_models_pickled_before_have_no_such_attributes():
    attention = Attention(nn.Identity(), "none", 3)
    state = {k: v for k, v in attention.__dict__.items() if k not in ("enabled", "insertion")}
    again = Attention.__new__(Attention)
    again.__setstate__(state)
    assert (again.enabled, again.insertion) == (True, "attention")
