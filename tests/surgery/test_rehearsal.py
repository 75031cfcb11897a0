"""The forward pass after surgery: short where the trace says enough, whole where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F
from zoo import BACKBONES, PlainVGG, Residual, outputs, same_bits, snapshot

import attnzoo
from attnzoo.errors import TraceError
from attnzoo.hosts.attention import Attention
from attnzoo.hosts.tree import paths_by_module
from attnzoo.surgery import rehearsal
from attnzoo.surgery.rehearsal import Known, Place, Rehearsal, known_calls, rehearse
from attnzoo.tracing.meta_ops import layout_of
from attnzoo.tracing.probe import probe

SIZE = (3, 16, 16)


def _place(shape: tuple[int, ...]) -> Place:
    return Place(Attention(nn.Identity(), "none", shape[1]), (layout_of(torch.empty(shape)),))


@pytest.fixture
def rehearsals(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each rehearsal of a `wrap`, whether it was a short one."""
    made: list[bool] = []

    def noted(model: Any, places: Any, example: Any, known: Any, *others: Any) -> Any:
        made.append(bool(known))
        return rehearse(model, places, example, known, *others)

    monkeypatch.setattr("attnzoo.surgery.operate.rehearse", noted)
    return made


def test_what_attention_is_given_is_seen_and_no_trace_of_it_stays() -> None:
    first, second = _place((1, 4, 6, 6)), _place((1, 4, 3, 3))
    shared = first.attention
    model = nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.MaxPool2d(2), shared, second.attention)
    untouched = snapshot(model)
    seen = rehearse(model, [first, second], (3, 8, 8))
    assert seen is not None
    assert seen.maps == (((1, 4, 6, 6), (1, 4, 3, 3)), ((1, 4, 3, 3),))
    assert seen.returned == probe(model, (3, 8, 8)).returned == ((1, 4, 3, 3),)
    with pytest.raises(TraceError, match="failed on"):
        rehearse(model, [first], (2, 8, 8))
    assert snapshot(model) == untouched
    assert not any("forward" in vars(module) for module in model.modules())


#: What ran. A twin has its own copy of what a closure holds, but not of what a module defines.
_RAN: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    _RAN.clear()


def test_of_attention_on_maps_of_one_layout_one_block_is_run() -> None:
    places = [_place((1, 3, 8, 8)) for _ in range(3)] + [_place((1, 3, 4, 4))]
    for number, place in enumerate(places):
        place.attention.block.register_forward_hook(
            lambda *_, name=str(number): _RAN.update([name])
        )
    attentions = [place.attention for place in places]
    model = nn.Sequential(*attentions[:3], nn.AvgPool2d(2), attentions[3])
    seen = rehearse(model, places, (3, 8, 8))
    assert seen == Rehearsal((((1, 3, 8, 8),),) * 3 + (((1, 3, 4, 4),),), ((1, 3, 4, 4),))
    assert _RAN == {"0": 1, "3": 1}


def test_known_calls_are_the_outermost_without_attention() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()),
        Residual(8),
        nn.Sequential(nn.MaxPool2d(2), nn.Sequential(nn.Flatten(), nn.ReLU())),
    )
    modules = {paths[0]: module for module, paths in paths_by_module(model).items()}
    trace = probe(model, SIZE)
    names = {module: path for path, module in modules.items()}

    def known(*attended: str) -> list[str]:
        return [names[module] for module in known_calls(trace, modules, attended)]

    assert known("attn_pre_1") == ["0", "1", "2"]
    assert known("1.attn_out") == ["0", "1.conv1", "1.bn1", "1.conv2", "1.bn2", "2"]
    assert known("2.attn_pre_0", "0.attn_post_1") == ["0.0", "0.1", "1", "2.0", "2.1"]
    ((taken, make),) = known_calls(trace, modules, ["attn_pre_1"])[model[0]]
    assert taken == layout_of(torch.empty(1, 3, 16, 16))
    assert layout_of(make()) == layout_of(torch.empty(1, 8, 14, 14))


class _Returns(nn.Module):
    """Returns what it is told to make of a map, and of the map that it makes."""

    def __init__(self, make: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.relu(x), x)


def _of_returning(make: Callable[[Tensor, Tensor], Any]) -> tuple[nn.Sequential, Known]:
    inner = nn.Sequential(_Returns(make))
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), inner))
    modules = {paths[0]: module for module, paths in paths_by_module(model).items()}
    return model, known_calls(probe(model, SIZE), modules, [])


@pytest.mark.parametrize(
    "make",
    [
        lambda y, x: SimpleNamespace(y=y, x=x),
        lambda y, x: [y, "text"],
        lambda y, x: {"maps": Size([1]), "y": y},
        lambda y, x: (y, torch.ones(1)),  # not made of the input: perhaps a parameter
        lambda y, x: None,
    ],
)
def test_a_call_that_returns_what_is_not_known_is_run_with_all_around_it(make: Any) -> None:
    model, known = _of_returning(make)
    assert list(known) == [model[0][0], model[0][1][0].relu]


def test_a_call_that_returns_tensors_in_lists_is_known() -> None:
    model, known = _of_returning(lambda y, x: {"maps": [y, x], "none": (None, 2.5, True), "y": y})
    assert list(known) == [model]
    ((_, make),) = known[model]
    made = make()
    layout = layout_of(torch.empty(1, 4, 16, 16))
    assert list(made) == ["maps", "none", "y"]
    assert made["none"] == (None, 2.5, True)
    assert [layout_of(item) for item in (*made["maps"], made["y"])] == [layout] * 3


class _Takes(nn.Module):
    """A neck that changes the list that it is given, and a head behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.neck = _Changes()
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Any:
        maps = [self.stem(x)]
        self.neck(maps)
        return self.head(maps[0])


class _Changes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps[0] = self.conv(maps[0])
        return [maps[0]]


def test_where_a_known_call_changes_its_arguments_all_is_run(rehearsals: list[bool]) -> None:
    model = _Takes().eval()
    x = torch.randn(2, *SIZE)
    before = model(x)
    attnzoo.wrap(model, "pre-pool", example=SIZE)
    assert rehearsals == [True, False]
    assert torch.equal(model(x), before)


def _count(model: nn.Module) -> None:
    """Count in `_RAN` how often each convolution runs; they keep a forward of their own."""

    def counted(forward: Callable[..., Any], path: str) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            _RAN[path] += 1
            return forward(*args, **kwargs)

        return counting

    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            vars(module)["forward"] = counted(module.forward, path)


@pytest.mark.parametrize("name", BACKBONES)
def test_what_holds_no_attention_runs_once_in_all(name: str, rehearsals: list[bool]) -> None:
    model = BACKBONES[name]()
    _count(model)
    own = {module: vars(module).get("forward") for module in model.modules()}
    attnzoo.wrap(model, "auto", "se", example=(3, 64, 64))
    assert rehearsals == [True]
    assert set(_RAN.values()) == {1}
    attnzoo.unwrap(model)
    assert {module: vars(module).get("forward") for module in model.modules()} == own


def test_a_plan_is_rehearsed_whole_because_the_model_may_have_changed(
    rehearsals: list[bool],
) -> None:
    model = PlainVGG()
    plan = attnzoo.plan(model, "pre-pool", example=SIZE)
    _count(model)
    plan.apply()
    assert rehearsals == [False]
    assert _RAN == {"features.0": 1, "features.3": 1}


class _Split(nn.Module):
    """Residual blocks on half of the channels, as in C2f: the half strides as the whole does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(4) for _ in range(2))
        self.join = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.conv(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(torch.cat(parts, 1)).mean((2, 3))


def test_half_of_a_map_is_laid_out_as_a_map(rehearsals: list[bool]) -> None:
    attnzoo.wrap(_Split(), "post-residual", "se", example=SIZE)
    assert rehearsals == [True]


class _Striding(nn.Module):
    """Keeps the shape, and lays the map out with its channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).contiguous().mul(self.weight).permute(0, 3, 1, 2)


class _Viewing(nn.Module):
    """Its head takes maps of one memory layout alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = _Viewed()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x))


class _Viewed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1)


def test_a_block_that_lays_its_result_out_otherwise_changes_no_layout(
    rehearsals: list[bool], registries: None
) -> None:
    """What comes behind may look at the map through a view."""
    attnzoo.register_block("striding")(_Striding)
    model = _Viewing()
    untouched = snapshot(model)
    after_conv: Any = ("match", {"pattern": "conv"})
    attnzoo.wrap(model, after_conv, "striding", start="paper", example=SIZE)
    assert rehearsals == [True]
    outputs(model)
    assert snapshot(attnzoo.unwrap(model)) == untouched


class _Noting(nn.Module):
    """Reads what a hook took down inside a module without attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.seen: list[Tensor] = []
        self.stem[0].register_forward_hook(lambda module, args, y: self.seen.append(y))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        y = self.pool(self.stem(x))
        return y + F.max_pool2d(self.seen[0], 2)


def test_side_effects_inside_modules_that_were_not_run(rehearsals: list[bool]) -> None:
    model = _Noting()
    x = torch.rand(2, *SIZE)
    before = outputs(model, x)
    attnzoo.wrap(model, ("match", {"pattern": "pool"}), example=SIZE)
    assert rehearsals == [True, False]
    assert same_bits(outputs(model, x), before)
    assert len(attnzoo.attention_modules(model)) == 1


class _Forgiving(nn.Module):
    """Catches what goes wrong, and goes on without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(x)
        try:
            return self.conv(y)
        except Exception:
            return y


def test_a_call_that_did_not_come_as_known_is_noticed_even_if_the_model_goes_on(
    monkeypatch: pytest.MonkeyPatch, rehearsals: list[bool]
) -> None:
    model = _Forgiving()
    known = rehearsal.known_calls

    def wrong(*args: Any) -> Any:
        return {
            module: [((*taken[:1], (0, 0, 0, 0), *taken[2:]), returned)]
            for module, [(taken, returned)] in known(*args).items()
            if isinstance(module, nn.Conv2d)
        }

    monkeypatch.setattr("attnzoo.surgery.operate.known_calls", wrong)
    attnzoo.wrap(model, ("match", {"pattern": "pool"}), example=SIZE)
    assert rehearsals == [True, False]


def test_known_calls_that_do_not_come_are_noticed() -> None:
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    layout = layout_of(torch.empty(1, *SIZE))
    call = (layout, lambda: torch.empty(1, *SIZE, device="meta"))
    more: Any = {model[0]: [call, call]}
    assert rehearse(model, [], SIZE, {model[0]: [call]}) is not None
    assert rehearse(model, [], SIZE, more) is None
    assert rehearse(model, [], SIZE, {model[0]: []}) is None
