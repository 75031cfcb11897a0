"""What the options of a recipe do to a step, a test and the weights that are left."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from places import ROOT
from torch import nn
from training import DATA, recipe, tiny_net

import attnzoo
from attnzoo.errors import OptionError, UnknownNameError
from attnzoo.study import load_study
from attnzoo.train import Watch, fit, open_data
from attnzoo.train.devices import launch
from attnzoo.train.session import Session

EXAMPLES = ROOT / "examples" / "studies"


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return attnzoo.wrap(tiny_net(**options), "pre-pool", "se", example=(3, 16, 16))


def session(model: nn.Module, **changes: Any) -> Session:
    how = recipe(**changes)
    return Session(launch(how), model, open_data(DATA), how)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def test_accumulated_passes_are_one_step() -> None:
    models = []
    for passes in (1, 4):
        torch.manual_seed(0)
        model = nn.Sequential(tiny_net()[4:6], tiny_net()[6:])  # no norm, whose batch would differ
        model = nn.Sequential(nn.Conv2d(3, 8, 1), *model)
        fit(model, open_data(DATA), recipe(accumulate=passes, optimizer="sgd", lr=0.1))
        models.append(model.state_dict())
    for key, tensor in models[0].items():
        torch.testing.assert_close(tensor, models[1][key], rtol=1e-4, atol=1e-6)


def test_what_is_frozen_keeps_its_statistics_too() -> None:
    model = network()
    before = state(model)
    fit(model, open_data(DATA), recipe(freeze="all"))
    changed = {key for key, tensor in model.state_dict().items() if not tensor.equal(before[key])}
    assert changed
    assert all("attn" in key for key in changed)


class HeadFirst(nn.Module):
    """Registers its head before its trunk, as some networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, 10)
        self.trunk = tiny_net()[:8]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


@pytest.mark.parametrize("attended", [True, False])
def test_freezing_the_backbone_leaves_head_and_attention_whatever_their_order(
    attended: bool,
) -> None:
    model = HeadFirst()
    if attended:
        attnzoo.wrap(model, "pre-pool", "se", example=(3, 16, 16))
    before = state(model)
    fit(model, open_data(DATA), recipe(freeze="backbone"))
    changed = {key for key, tensor in model.state_dict().items() if not tensor.equal(before[key])}
    assert {"head.weight", "head.bias"} <= changed
    assert all("attn" in key or key.startswith("head.") for key in changed)
    assert any("attn" in key for key in changed) == attended


def test_a_fresh_head_learns_whatever_is_frozen() -> None:
    model = network()
    before = state(model)
    fit(model, open_data(DATA), recipe(freeze="all"), fresh_head=True)
    changed = {key for key, tensor in model.state_dict().items() if not tensor.equal(before[key])}
    assert {"8.weight", "8.bias"} <= changed
    assert "4.weight" not in changed


@pytest.mark.parametrize("until", ["all", "9"])
def test_nothing_left_to_learn_is_said_before_anything_runs(until: str) -> None:
    with pytest.raises(OptionError, match=r"freeze='\w+' leaves .*nothing to learn"):
        fit(tiny_net(), open_data(DATA), recipe(freeze=until))


def test_stages_unfreeze_at_their_epochs() -> None:
    class States(Watch):
        def __init__(self, model: nn.Module) -> None:
            self.model, self.states = model, [state(model)]

        def epoch(self, row: dict[str, Any]) -> None:
            self.states.append(state(self.model))

    model = network()
    watch = States(model)
    stages = {"freeze": "4", "unfreeze": {2: "4", 4: "all"}}
    fit(model, open_data(DATA), recipe(epochs=4, **stages), watch=watch)

    def moved(key: str) -> list[bool]:
        states = [found[key] for found in watch.states]
        return [not a.equal(b) for a, b in pairwise(states)]

    assert moved("0.weight") == [False, False, False, True]
    assert moved("4.weight") == [False, True, True, True]
    assert moved("8.weight") == [True, True, True, True]


def test_what_joins_is_at_the_schedules_rate_and_decay() -> None:
    own = session(
        network(),
        **{"epochs": 4, "warmup_epochs": 1, "freeze": "4", "unfreeze": {3: "all"}},
        attention_lr_scale=5.0,
    )
    own.progress.epoch = 2
    assert own.open_epoch()
    own.schedule.set(own.updates)
    rates = {group["name"]: group["lr"] for group in own.optimizer.param_groups}
    assert rates["backbone"] == rates["backbone-no-decay"] == pytest.approx(0.75e-3)
    assert rates["attention"] == pytest.approx(5 * 0.75e-3)
    grouped = [id(p) for group in own.optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in own.model.parameters())
    assert not own.open_epoch()


@pytest.mark.parametrize("option", ["freeze", "unfreeze"])
def test_unknown_paths_are_named_before_training(option: str) -> None:
    wrong = {"freeze": "44"} if option == "freeze" else {"freeze": "4", "unfreeze": {2: "77"}}
    before = state(model := network())
    with pytest.raises(UnknownNameError, match=f"^{option}: no module has the path"):
        fit(model, open_data(DATA), recipe(**wrong))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(tensor.equal(before[key]) for key, tensor in model.state_dict().items())


def test_networks_with_attention_may_have_a_rate_of_their_own() -> None:
    plain = session(tiny_net(), wrapped_lr_scale=0.5)
    wrapped = session(network(), wrapped_lr_scale=0.5)
    assert (plain.lr, wrapped.lr) == (1e-3, 0.5e-3)


def test_the_average_is_what_is_tested_and_kept() -> None:
    data = open_data(DATA)
    averaged, last = network(), network()
    result = fit(averaged, data, recipe(ema=0.9, epochs=3))
    fit(last, data, recipe(epochs=3))
    assert not torch.equal(averaged[0].weight, last[0].weight)
    images, labels = data.test.__getitems__([(0, 0, index) for index in range(32)])
    loss = nn.functional.cross_entropy(averaged.eval()(images), labels).item()
    assert result.epochs[-1]["test_loss"] == pytest.approx(loss, rel=1e-5)
    # By hand: the decay is 1 − (1 + step)^(−2/3), at most 0.9, from the second step on.
    own = session(network(), ema=0.9)
    own.train_mode()
    batches, average = own.batches(), None
    for step in range(1, 4):
        own.step(batches)
        weight = own.model[0].weight.detach()
        decay = 0.0 if step == 1 else min(0.9, 1 - step ** (-2 / 3))
        average = weight.clone() if average is None else decay * average + (1 - decay) * weight
    torch.testing.assert_close(own.ema.module[0].weight, average)


def test_gradients_are_clipped() -> None:
    own = session(network(), clip_norm=1e-3)
    own.train_mode()
    own.backward(own.batches())
    own.update()
    norm = torch.stack([p.grad.norm() for p in own.model.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_imagenets_recipe_is_the_published_one() -> None:
    study = load_study(EXAMPLES / "imagenet_vgg16.yaml")
    how = study.runs[0].train
    assert (how.optimizer, how.lr, how.momentum, how.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (how.epochs, how.batch_size, how.step_epochs, how.step_factor) == (90, 256, 30, 0.1)
    assert {run.variant.title for run in study.runs} >= {"plain", "VGG16WithAttention"}
    assert (study.data.dataset, study.data.test_crop) == ("ImageNet", 0.875)
