"""Learned widths: the penalty closes units, the cut leaves the outputs, files keep the widths."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from zoo import BACKBONES, example, outputs, same_bits, snapshot

import attnzoo
from attnzoo.blocks import LocalDynamicAttention
from attnzoo.errors import CheckpointError, NotWrappedError, OptionError, UnsupportedModelError
from attnzoo.shrinking import ShrunkGate

SIZE = (3, 64, 64)
CHANNEL, SPATIAL = "channel_attention.units", "spatial_attention.units"


def dynamic_blocks(model: nn.Module) -> list[LocalDynamicAttention]:
    return [module for module in model.modules() if isinstance(module, LocalDynamicAttention)]


def wrapped(name: str = "plain", policy: str = "pre-pool", **options: object) -> nn.Module:
    """A model with attention that has learned something."""
    model = attnzoo.wrap(BACKBONES[name](), policy, "local-dynamic", example=SIZE, **options)
    for key, parameter in model.named_parameters():
        if key.endswith("gamma"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    for block in dynamic_blocks(model):
        for key, parameter in block.named_parameters():
            if not key.endswith("openness"):
                nn.init.normal_(parameter, std=0.3)
    return model.eval()


@torch.no_grad()
def close(model: nn.Module, share: float = 0.5) -> int:
    """Close a random part of all gates: at zero, or below; and how many."""
    closed = 0
    for block in dynamic_blocks(model):
        for units in (block.channel_attention.units, block.spatial_attention.units):
            width = units.openness.numel()
            units.openness.uniform_(0.1, 2)
            dead = torch.randperm(width)[: int(share * width)]
            units.openness[dead] = -torch.rand(len(dead)).round(decimals=1).to(units.openness)
            closed += len(dead)
    return closed


def widths(model: nn.Module) -> list[tuple[int, int]]:
    return [block.widths for block in dynamic_blocks(model)]


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("plain", "pre-pool"),
        ("resnet18", "in-residual"),
        ("timm/resnet18", "in-residual"),
        ("timm/mobilenetv3_small_050", "mbconv"),
    ],
)
def test_removing_closed_units_leaves_the_outputs(name: str, policy: str) -> None:
    model = wrapped(name, policy)
    closed = close(model)
    before, old = outputs(model), widths(model)
    parameters = sum(p.numel() for p in model.parameters())

    report = attnzoo.shrink(model)

    torch.testing.assert_close(outputs(model), before, rtol=1e-5, atol=1e-5)
    assert report.exact
    assert report.units == closed > 0
    assert report.parameters == parameters - sum(p.numel() for p in model.parameters())
    new = widths(model)
    assert sum(map(sum, old)) - sum(map(sum, new)) == closed
    assert all(gate.before >= gate.after >= 1 for gate in report.gates)
    assert [(gate.before, gate.after) for gate in report.gates] == [
        pair for a, b in zip(old, new, strict=True) for pair in zip(a, b, strict=True)
    ]
    for block in dynamic_blocks(model):
        for units in (block.channel_attention.units, block.spatial_attention.units):
            width = units.openness.numel()
            assert units.reduce.out_channels == units.expand.in_channels == width
            assert (units.gates > 0).all()


def test_a_second_cut_removes_nothing() -> None:
    model = wrapped()
    close(model)
    attnzoo.shrink(model)
    before, parameters = outputs(model), [id(p) for p in model.parameters()]
    report = attnzoo.shrink(model)
    assert (report.units, report.parameters, report.exact) == (0, 0, True)
    assert same_bits(outputs(model), before)
    assert [id(p) for p in model.parameters()] == parameters


def test_the_most_open_unit_stays_where_all_are_closed() -> None:
    block = attnzoo.create_block("local-dynamic", 16, floor=1)
    openness = block.spatial_attention.units.openness
    with torch.no_grad():
        openness.copy_(torch.tensor([-3.0, -1.0, -2.0, -4.0]))
    x = torch.randn(2, 16, 5, 5)
    before = block(x)
    report = attnzoo.shrink(block)
    assert block.widths == (4, 1)
    assert block.spatial_attention.units.openness.item() == -1
    assert report.exact
    torch.testing.assert_close(block(x), before, rtol=1e-6, atol=1e-6)


def test_a_threshold_cuts_open_units_and_the_report_says_so() -> None:
    block = attnzoo.create_block("local-dynamic", 16, floor=1)
    with torch.no_grad():
        block.spatial_attention.units.openness.copy_(torch.tensor([0.0, 0.5, 0.3, 2.0]))
    report = attnzoo.shrink(block, threshold=0.3)
    assert block.widths == (4, 2)
    assert report.gates == (
        ShrunkGate(CHANNEL, before=4, after=4, parameters=0, largest=0.0),
        ShrunkGate(
            SPATIAL, before=4, after=2, parameters=2 * (16 + 1 + 2), largest=pytest.approx(0.3)
        ),
    )
    assert not report.exact
    assert str(report) == (
        "2 hidden units removed, 38 parameters.\n"
        f"{CHANNEL}: 4 → 4\n"
        f"{SPATIAL}: 4 → 2\n"
        "Gates up to 0.3 were cut: outputs have changed."
    )


def test_what_is_frozen_stays_frozen_and_what_is_trained_is_trained() -> None:
    block = attnzoo.create_block("local-dynamic", 16).to(torch.float64)
    block.spatial_attention.units.reduce.requires_grad_(False)
    close(block)
    flags = {key: p.requires_grad for key, p in block.named_parameters()}
    attnzoo.shrink(block)
    assert {key: p.requires_grad for key, p in block.named_parameters()} == flags
    assert {p.dtype for p in block.parameters()} == {torch.float64}
    assert all(p.is_leaf and p.grad is None for p in block.parameters())
    block(torch.randn(2, 16, 5, 5, dtype=torch.float64)).sum().backward()


def test_the_penalty_is_the_sum_of_the_gates_and_falls_at_one_pace() -> None:
    block = attnzoo.create_block("local-dynamic", 16, floor=1)
    with torch.no_grad():
        block.channel_attention.units.openness.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    penalty = attnzoo.sparsity_penalty(block)
    assert penalty.shape == ()
    assert penalty.item() == 2.5 + 4
    penalty.backward()
    assert block.channel_attention.units.openness.grad.tolist() == [1, 0, 1, 0]
    assert block.spatial_attention.units.openness.grad.tolist() == [1] * 4


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_the_penalty_closes_units_in_training_and_shrink_removes_them(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    x = torch.randn(64, 8, 4, 4)
    target = x * torch.sigmoid(3 * x[:, :1])  # few units are needed: it looks at one channel

    def train(factor: float) -> tuple[nn.Module, list[float]]:
        torch.manual_seed(0)
        block = attnzoo.create_block("local-dynamic", 8, reduction=1)
        updates = optimizer(block.parameters(), lr=0.1 if optimizer is torch.optim.SGD else 0.02)
        losses = []
        for _ in range(150):
            loss = F.mse_loss(block(x), target)
            updates.zero_grad()
            (20 * loss + factor * attnzoo.sparsity_penalty(block)).backward()
            updates.step()
            losses.append(loss.item())
        before = block(x).detach()
        assert attnzoo.shrink(block).exact
        torch.testing.assert_close(block(x), before, rtol=1e-5, atol=1e-5)
        return block, losses

    plain, plain_losses = train(0.0)
    sparse, sparse_losses = train(0.1)
    assert plain.widths == (8, 8)
    assert sum(sparse.widths) < 10
    assert plain_losses[-1] < 0.5 * plain_losses[0]
    assert sparse_losses[-1] < 0.5 * sparse_losses[0]


# ------------------------------------------------------------------------ afterwards


def shrunken(**options: object) -> nn.Module:
    model = wrapped("resnet18", "in-residual", **options)
    close(model)
    attnzoo.shrink(model)
    return model


def plain_like(model: nn.Module) -> nn.Module:
    plain = BACKBONES["resnet18"]()
    plain.load_state_dict(attnzoo.backbone_state_dict(model))
    return plain


@pytest.mark.parametrize(
    ("what", "onto"),
    [
        ("attention", "plain"),
        ("attention", "wrapped"),
        ("all", "plain"),
        ("all", "wrapped"),
        ("all", "meta"),
    ],
)
def test_a_file_brings_the_widths(tmp_path: Path, what: str, onto: str) -> None:
    model = shrunken()
    attnzoo.save(model, tmp_path / "a.safetensors", what)
    target = plain_like(model)
    if onto == "wrapped":
        attnzoo.wrap(target, "in-residual", "local-dynamic", example=SIZE)
    elif onto == "meta":
        target = target.to("meta")
    again = attnzoo.load(tmp_path / "a.safetensors", target)
    assert widths(again) == widths(model)
    assert same_bits(outputs(again), outputs(model))
    assert attnzoo.shrink(again).units == 0


def test_a_state_dict_brings_the_widths_both_ways() -> None:
    narrow, broad = shrunken(), wrapped("resnet18", "in-residual")
    first, second = copy.deepcopy(narrow.state_dict()), copy.deepcopy(broad.state_dict())
    before = outputs(narrow), outputs(broad)
    narrow.load_state_dict(second)
    broad.load_state_dict(first)
    assert same_bits(outputs(broad), before[0])
    assert same_bits(outputs(narrow), before[1])
    assert narrow.state_dict().keys() == broad.state_dict().keys()


def test_copies_and_pickles_keep_the_widths() -> None:
    model = shrunken()
    before = outputs(model)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert widths(again) == widths(model)
        assert same_bits(outputs(again), before)


@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
def test_a_shrunken_model_trains_is_exported_and_counted() -> None:
    model = shrunken()
    assert attnzoo.cost(model, SIZE).parameters == sum(p.numel() for p in model.parameters())
    program = torch.export.export(model, (example(),))
    before = outputs(model)
    torch.testing.assert_close(program.module()(example()), before, rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.SGD(attnzoo.param_groups(model, lr=0.01))
    model.train()(example()).sum().backward()
    optimizer.step()
    assert not torch.equal(outputs(model), before)


def test_a_shrunken_model_is_unwrapped() -> None:
    model = shrunken()
    plain = plain_like(model).eval()
    attnzoo.unwrap(model)
    assert not dynamic_blocks(model)
    assert same_bits(outputs(model), outputs(plain))
    assert list(model.state_dict()) == list(plain.state_dict())


# ------------------------------------------------------------------------ refused


@pytest.mark.parametrize("function", [attnzoo.shrink, attnzoo.sparsity_penalty])
@pytest.mark.parametrize("block", [None, "local"])
def test_a_model_without_learned_widths_is_refused(function: object, block: str | None) -> None:
    model = BACKBONES["plain"]()
    if block:
        attnzoo.wrap(model, "pre-pool", block, example=SIZE)
    with pytest.raises(NotWrappedError, match=r"PlainVGG has no block of learned width.*wrap"):
        function(model)


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("inf"), True, "0", None])
def test_a_bad_threshold_is_refused(threshold: object) -> None:
    with pytest.raises(OptionError, match=r"shrink: threshold=.* must be"):
        attnzoo.shrink(attnzoo.create_block("local-dynamic", 8), threshold)


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def parallel(model: nn.Module) -> nn.Module:
    return nn.DataParallel(model)


@pytest.mark.parametrize("make", [compiled, parallel, lambda model: model.to("meta")])
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_must_keep_its_parameters_is_refused(make: object) -> None:
    model = make(attnzoo.create_block("local-dynamic", 8))
    parameters = list(map(id, model.parameters()))
    with pytest.raises(UnsupportedModelError, match="shrink"):
        attnzoo.shrink(model)
    assert list(map(id, model.parameters())) == parameters


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_gate_late_in_the_model_leaves_all_of_it_as_it_was(value: float) -> None:
    model = wrapped("resnet18", "in-residual")
    close(model)
    last = dynamic_blocks(model)[-1].spatial_attention.units
    with torch.no_grad():
        last.openness[0] = value
    before = snapshot(model)
    with pytest.raises(OptionError, match=r"layer4\.1.*units has a gate that is NaN or infinite"):
        attnzoo.shrink(model)
    assert snapshot(model) == before


def test_a_file_whose_widths_contradict_each_other_is_refused(tmp_path: Path) -> None:
    model = shrunken()
    path = tmp_path / "a.safetensors"
    attnzoo.save(model, path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("units.openness"))
    for bad in (tensors[key][:-1], tensors[key][:, None], tensors[key][:0]):
        save_file({**tensors, key: bad.clone()}, path, metadata=header)
        target = plain_like(model)
        before = snapshot(target)
        with pytest.raises(CheckpointError, match=r"does not fit: .*units"):
            attnzoo.load(path, target)
        assert [entry[:3] for entry in snapshot(target)] == [entry[:3] for entry in before]
        assert not dynamic_blocks(target)
    with pytest.raises(RuntimeError, match="size mismatch"):
        dynamic_blocks(model)[0].load_state_dict(
            {**dynamic_blocks(model)[0].state_dict(), f"{CHANNEL}.openness": torch.ones(99)}
        )
