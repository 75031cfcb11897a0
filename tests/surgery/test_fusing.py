"""Attention joined with the pool behind it, and taken apart again."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from zoo import BACKBONES, same_bits, snapshot

import attnzoo
from attnzoo.errors import NotWrappedError, UnsupportedModelError
from attnzoo.hosts.attention import Attended, Attention
from attnzoo.kernels import calls, dispatch, joinable
from attnzoo.surgery import fusing
from attnzoo.surgery.changes import Changes
from attnzoo.surgery.edits import Hook
from attnzoo.surgery.fusing import Joined

SIZE = (3, 32, 32)


@pytest.fixture(autouse=True)
def _compile_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C++ that inductor writes takes ten seconds a block to compile."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(fusing, "_has_compiler", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def network(pool: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        pool or nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Flatten(),
    ).eval()


def wrapped(policy: object = "pre-pool", block: str = "local", **options: object) -> nn.Sequential:
    model = attnzoo.wrap(network(), policy, block, example=SIZE, **options)
    for module in attentions(model):
        if module.gamma is not None:
            nn.init.normal_(module.gamma)
    return model


def attentions(model: nn.Module) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]


def example() -> Tensor:
    return torch.randn(2, *SIZE)


def joined(model: nn.Module) -> list[bool]:
    return [module.pool is not None for module in attentions(model)]


def test_outputs_keys_and_parameters_stay() -> None:
    model, x = wrapped(), example()
    before, keys = model(x), list(model.state_dict())
    parameters = dict(model.named_parameters())
    assert attnzoo.fuse(model) is model
    assert joined(model) == [True, True]
    torch.testing.assert_close(model(x), before)
    assert list(model.state_dict()) == keys
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert [m._compiled_call_impl is not None for m in attentions(model)] == [True, True]


def test_the_identity_start_stays_bit_for_bit() -> None:
    plain, x = network(), example()
    before = plain(x)
    model = attnzoo.wrap(plain, "pre-pool", example=SIZE)
    assert same_bits(attnzoo.fuse(model)(x), before)


def test_unfuse_and_unwrap_bring_everything_back() -> None:
    plain = network()
    untouched = snapshot(plain)
    model = attnzoo.wrap(plain, "pre-pool", example=SIZE)
    between = snapshot(model)
    attnzoo.fuse(attnzoo.fuse(model))
    assert any(isinstance(module, Joined) for module in model)
    assert snapshot(attnzoo.unfuse(model)) == between
    assert snapshot(attnzoo.unfuse(model)) == between
    assert snapshot(attnzoo.unwrap(attnzoo.fuse(model))) == untouched


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_fused_and_can_be_unfused(copied) -> None:
    model, x = wrapped(), example()
    before = model(x)
    again = copied(attnzoo.fuse(model))
    torch.testing.assert_close(again(x), before)
    assert joined(again) == [True, True]
    assert not any(m._compiled_call_impl for m in attentions(again))
    attnzoo.unfuse(again)
    assert [type(m) for m in again] == [type(m) for m in wrapped()]
    torch.testing.assert_close(again(x), before)


def test_wherever_surgery_put_it() -> None:
    after = ("match", {"pattern": "0", "where": "after"})
    inner = ("match", {"pattern": "0.1", "where": "after"})
    for policy, count in ((after, 1), (inner, 1), ("stage-end", 1)):
        model = wrapped(policy)
        x = example()
        before = model(x)
        attnzoo.fuse(model)
        assert sum(joined(model)) >= count, policy
        torch.testing.assert_close(model(x), before)


def test_a_pool_that_attention_stands_around() -> None:
    class Host(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.conv(x))

    model = attnzoo.wrap(Host(), "pre-pool", example=SIZE)
    assert isinstance(model.pool, Attended)
    x = example()
    before = model(x)
    attnzoo.fuse(model)
    assert isinstance(model.pool.host, Joined)
    assert same_bits(model(x), before)
    attnzoo.unwrap(model)
    assert isinstance(model.pool, nn.MaxPool2d)


def test_a_hooked_block_before_a_pool() -> None:
    host = BACKBONES["resnet18"]().layer1[0]
    model = nn.Sequential(nn.Conv2d(3, 64, 1), host, nn.MaxPool2d(2)).eval()
    edit = Hook("1", "after")
    changes = Changes(model)
    edit.apply(changes, Attention(attnzoo.create_block("se", 64), "se", 64).eval())
    changes.commit()
    x = example()
    before = model(x)
    attnzoo.fuse(model)
    assert joined(model) == [True]
    assert same_bits(model(x), before)
    attnzoo.unfuse(model)
    host.register_forward_hook(lambda *_: None)
    assert joined(attnzoo.fuse(model)) == [False]


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(2, 1),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d((2, 1)),
        nn.AvgPool2d(2, divisor_override=3),
        nn.LPPool2d(2, 2),
    ],
    ids=str,
)
def test_other_pools_stay(pool: nn.Module) -> None:
    assert joinable(pool) is None
    model = attnzoo.wrap(network(pool), "pre-pool", example=SIZE)
    attnzoo.fuse(model)
    assert any(module is pool for module in model)


def test_which_pools_join() -> None:
    assert joinable(nn.MaxPool2d(2)) == ("max", False)
    assert joinable(nn.MaxPool2d((2, 2), stride=(2, 2), ceil_mode=True)) == ("max", True)
    assert joinable(nn.AvgPool2d(2, count_include_pad=False)) == ("mean", False)
    assert joinable(nn.MaxPool2d(2, return_indices=True)) is None


def test_what_is_watched_or_shared_stays() -> None:
    watched_pool, watched_attention = wrapped(), wrapped()
    watched_pool[2].register_forward_hook(lambda *_: None)
    attentions(watched_attention)[0].register_forward_hook(lambda *_: None)
    for model in (watched_pool, watched_attention):
        assert joined(attnzoo.fuse(model)) == [False, True]
    shared = wrapped()
    twice = nn.ModuleDict({"whole": shared, "attention": attentions(shared)[0]})
    assert joined(attnzoo.fuse(twice)) == [False, True]


def test_blocks_without_kernels_are_compiled_only() -> None:
    model = attnzoo.fuse(wrapped(block="ge"))
    assert joined(model) == [False, False]
    assert all(m._compiled_call_impl for m in attentions(model))


def test_nothing_is_compiled_off_the_cpu_or_without_a_compiler(monkeypatch) -> None:
    model = attnzoo.fuse(wrapped().to("meta"))
    assert joined(model) == [True, True]
    assert not any(m._compiled_call_impl for m in attentions(model))
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda name: None)
    model = attnzoo.fuse(wrapped())
    assert not any(m._compiled_call_impl for m in attentions(model))


def test_every_attention_has_a_compiler_cache_of_its_own() -> None:
    torch.compiler.reset()
    model = attnzoo.fuse(wrapped())
    codes = {m._compiled_call_impl.__wrapped__.__code__.co_name for m in attentions(model)}
    assert len(codes) == 2
    with torch.no_grad():
        model(example())
    model.train()(example()).sum().backward()
    assert all(p.grad is not None for m in attentions(model) for p in m.parameters())


def test_a_fused_model_is_not_wrapped_again() -> None:
    model = attnzoo.fuse(wrapped().to("meta"))
    with pytest.raises(UnsupportedModelError, match=r"fused. Call attnzoo.unfuse"):
        attnzoo.plan(model, "stage-end", example=SIZE)


def test_a_plain_model_has_nothing_to_fuse() -> None:
    with pytest.raises(NotWrappedError, match=r"attnzoo.wrap"):
        attnzoo.fuse(network())
    model = network()
    assert attnzoo.unfuse(model) is model


def test_joined_attention_runs_on_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, x = wrapped().to(device), example().to(device)
    before = model(x)
    monkeypatch.setattr(dispatch, "DEVICES", {device})
    monkeypatch.setattr(dispatch, "ENABLED", True)
    monkeypatch.setattr(fusing, "_has_compiler", lambda: False)
    asked, gated = [], calls.gated
    monkeypatch.setattr(calls, "gated", lambda *a: (asked.append(a[4]), gated(*a))[1])
    torch.testing.assert_close(attnzoo.fuse(model)(x), before, rtol=1e-4, atol=1e-5)
    assert asked == ["max", "mean"]
