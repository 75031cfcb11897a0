"""One block at all calls of what a network runs several times: `shared=True`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from test_called import PAIR, SIZE, Detector, Distance, Steps
from torch import Tensor, nn
from zoo import Residual, same_bits, snapshot

import attnzoo
from attnzoo.errors import NoSitesError, OptionError, SiteError
from attnzoo.hosts import Attention

IMAGE = (3, 32, 32)

#: Network, example, policy, and the places with the calls at each.
CASES: list[tuple[type[nn.Module], Any, Any, list[tuple[str, int]]]] = [
    (Detector, SIZE, "auto", [("trunk.0.0", 1), ("head", 3), ("trunk.1.0", 1), ("trunk.2.0", 1)]),
    (Distance, PAIR, "auto", [("b.3", 2)]),
    (Steps, IMAGE, "auto", [("c", 3), ("d", 3)]),
    (Steps, IMAGE, ("match", {"type": "Conv2d", "shared": True}), [("c", 3), ("d", 3)]),
]


def _outputs(model: nn.Module, example: Any) -> list[Tensor]:
    inputs = example if isinstance(example[0], Tensor) else (torch.ones(1, *example),)
    with torch.no_grad():
        made = model.eval()(*inputs)
    return list(made) if isinstance(made, list) else [made]


@pytest.mark.parametrize(("net", "example", "policy", "places"), CASES)
def test_the_places_and_what_they_do(
    net: type[nn.Module], example: Any, policy: Any, places: list[tuple[str, int]]
) -> None:
    model = net().eval()
    untouched, before = snapshot(model), _outputs(model, example)
    shared = policy == "auto"
    plan = attnzoo.plan(model, policy, "se", example=example, shared=shared)
    assert [(site.path, len(site.values)) for site in plan.sites] == places
    plan.apply()
    assert all(map(same_bits, _outputs(model, example), before))
    runs: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda ran, *_: runs.append(ran))
            torch.nn.init.ones_(module.gamma)
    after = _outputs(model, example)
    assert sorted(map(runs.count, set(runs))) == sorted(times for _, times in places)
    assert not any(map(same_bits, after, before))
    assert all(map(same_bits, _outputs(copy.deepcopy(model), example), after))
    attnzoo.unwrap(model)
    assert snapshot(model) == untouched


def test_the_plan_says_so_and_counts_all_calls() -> None:
    plan = attnzoo.plan(Detector(), "auto", "se", example=SIZE, shared=True)
    row = next(row for row in plan.rows if row.site.path == "head")
    once = [row.macs for row in plan.rows if row.site.path.startswith("trunk.1")]
    assert str(row.site) == "after head (16×16×16) at 3 calls"
    assert "after head, 3 calls" in str(plan)
    assert row.macs > 2 * once[0]
    assert row.parameters == plan.rows[0].parameters
    assert "shared=True" in str(plan.recipe)


def test_files_keep_it(tmp_path: Path) -> None:
    model = attnzoo.wrap(Detector(), "in-residual", "se", example=SIZE, shared=True)
    for gamma in (module.gamma for module in model.modules() if isinstance(module, Attention)):
        nn.init.ones_(gamma)
    attnzoo.save(model, tmp_path / "a.safetensors", what="all")
    again = attnzoo.load(tmp_path / "a.safetensors", Detector())
    assert all(map(same_bits, _outputs(again, SIZE), _outputs(model, SIZE)))


class _Mixed(nn.Module):
    """An activation that is used at places of other widths, and a layer at several sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.block = nn.ReLU(), Residual(8)
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.act(self.a(x)))
        return self.act(self.b(self.block(x)))


def test_an_activation_for_all_of_a_network_is_no_place() -> None:
    model = _Mixed()
    plan = attnzoo.plan(model, "post-residual", "se", example=IMAGE, shared=True)
    assert [(site.path, len(site.values)) for site in plan.sites] == [("block", 2)]
    with pytest.raises(SiteError, match="no weights and is used at 2 places"):
        attnzoo.plan(
            nn.Sequential(_Sums()), ("match", {"type": "ReLU"}), "se", example=IMAGE, shared=True
        )


class _Sums(nn.Module):
    """No module makes or takes alone what the activation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.a = nn.ReLU(), nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.a(x).sin())
        return self.act(y.cos()) + y


def test_it_is_yes_or_no() -> None:
    with pytest.raises(OptionError, match="shared"):
        attnzoo.plan(Detector(), ("auto", {"shared": "yes"}), example=SIZE)


class _Repeated(nn.Module):
    """Nothing pools in what runs three times."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self.step(self.step(x)))


def test_who_shares_is_not_told_to() -> None:
    told = {}
    for shared in (False, True):
        with pytest.raises(NoSitesError) as error:
            attnzoo.plan(_Repeated(), "pre-pool", "se", example=SIZE, shared=shared)
        told[shared] = str(error.value)
    assert "is called 3 times" in told[True]
    assert ["shared=True" in told[shared].partition("\n")[2] for shared in told] == [True, False]
