"""Forward passes that look at values: they are followed on, with what is known of them."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import attnzoo
from attnzoo.errors import TraceError
from attnzoo.tracing import FastShapes, Twin, Values, probe

SIZE = (3, 32, 32)


class Looks(nn.Module):
    """Three stages, and something that is done with what the first one returns."""

    def __init__(self, does: Callable[["Looks", Tensor], Tensor]) -> None:
        super().__init__()
        self.does = does
        self.register_buffer("ready", torch.tensor(1))
        self.register_buffer("sizes", torch.tensor([2.0, 0.5]))
        self.scale = nn.Parameter(torch.ones(()))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2))
            for i, o in ((3, 8), (8, 16), (16, 32))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.does(self, self.stages[0](x))
        return self.stages[2](self.stages[1](x)).mean((2, 3))


def _nan(net: Looks, x: Tensor) -> Tensor:
    if not torch.isfinite(x).all() or torch.isnan(x).any():
        raise ValueError("not finite")
    return x


def _log(net: Looks, x: Tensor) -> Tensor:
    net.mean = x.mean().item()
    net.seen = x.mean((2, 3)).cpu().tolist() + x.sum((2, 3)).tolist()
    return x


def _flag(net: Looks, x: Tensor) -> Tensor:
    if net.ready == 0:
        raise RuntimeError("not ready")
    net.ready.fill_(0)
    assert net.ready == 0
    return x


def _scale(net: Looks, x: Tensor) -> Tensor:
    assert float(net.scale) == 1
    assert bool((net.sizes.sum() * 2).sqrt().round() == 2)
    return x / float(net.scale)


def _range(net: Looks, x: Tensor) -> Tensor:
    return x / 255 if x.max() > 1 else x


def _mask(net: Looks, x: Tensor) -> Tensor:
    x = x + 1
    x[x < 0.5] = 0
    return x


def _equal(net: Looks, x: Tensor) -> Tensor:
    return x if torch.equal(x, x) and torch.allclose(x, x) else x[:, :4]


@pytest.mark.parametrize("does", [_nan, _log, _flag, _scale, _range, _mask, _equal])
def test_all_places_are_found(does: Callable[[Looks, Tensor], Tensor]) -> None:
    model = Looks(does).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE, strict=True)
    assert len(attnzoo.attention_modules(model)) == 3
    for key, value in attnzoo.backbone_state_dict(model).items():
        assert torch.equal(value, before[key]), key
    assert not hasattr(model, "mean")


def test_a_hook_of_the_users() -> None:
    model = Looks(lambda net, x: x)
    seen: list[bool] = []
    model.stages[0].register_forward_hook(lambda *call: seen.append(bool(call[2].isnan().any())))
    assert len(attnzoo.plan(model, "pre-pool", "se", example=SIZE).sites) == 3
    assert not seen, "the twin has its own"


def test_the_first_thing_that_is_done() -> None:
    model = nn.Sequential(_First(), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    plan = attnzoo.plan(model, "pre-pool", "se", example=SIZE)
    assert [site.path for site in plan.sites] == ["3"]
    (line,) = plan.assumed
    assert line.startswith(f"{__file__}:")
    assert f"assumed: {line}" in str(plan)


class _First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 1:
            raise ValueError("pass images in [0, 1]")
        return x


def test_values_of_the_example_count() -> None:
    with pytest.raises(TraceError, match="pass images"):
        attnzoo.plan(
            nn.Sequential(_First(), nn.Conv2d(3, 8, 3)), example=torch.full((1, *SIZE), 9.0)
        )


def test_a_loop_until_something_has_converged_ends() -> None:
    def converge(net: Looks, x: Tensor) -> Tensor:
        while x.abs().sum() > 0:
            x = x * 1.0
        return x

    with pytest.warns(UserWarning, match=r"without an end.*2 layers would run later: stages.1.0"):
        model = attnzoo.wrap(Looks(converge), "stage-end", "se", example=SIZE)
    assert len(attnzoo.attention_modules(model)) == 1


def test_what_shapes_depend_on_ends_it_and_is_told_with_its_line() -> None:
    def choose(net: Looks, x: Tensor) -> Tensor:
        return x.flatten()[x.flatten() > 0].sum() + x

    model = Looks(choose)
    plan = attnzoo.plan(model, "pre-pool", "se", example=SIZE)
    assert len(plan.sites) == 1
    assert plan.trace.never_run == ("stages.1.0", "stages.2.0")
    assert f"{__file__}:" in plan.unseen[0]
    with pytest.raises(TraceError, match=r"strict=True: values decide .*test_values.py:\d+"):
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE, strict=True)
    assert not attnzoo.attention_modules(model)
    with pytest.warns(UserWarning, match="2 layers would run later"):
        attnzoo.wrap(model, "pre-pool", "se", example=SIZE)


def test_a_failure_after_a_guess_ends_it_where_it_happens() -> None:
    def crop(net: Looks, x: Tensor) -> Tensor:
        return x if x.sum() < 0 else x[:, :3]

    plan = attnzoo.plan(Looks(crop), "pre-pool", "se", example=SIZE)
    assert len(plan.sites) == 1
    assert "channel dimensions" in plan.trace.stopped


def test_values_in_place_are_those_of_their_time() -> None:
    flag = nn.Module()
    flag.register_buffer("count", torch.tensor([1.0, 2.0]))
    twin = Twin(flag)
    with FastShapes(Values(twin.original)):
        count = twin.root.count
        double = count * 2
        count.add_(10)
        assert double.tolist() == [2, 4]
        assert count.cpu().tolist() == [11, 12]
        assert count.max().item() == 12
    assert flag.count.tolist() == [1, 2]


def test_weights_nobody_has_yet_are_no_hindrance() -> None:
    with torch.device("meta"):
        model = Looks(lambda net, x: x / float(net.scale))
    assert probe(model, SIZE).stopped == ""
