"""The published network, layer for layer, and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import attnzoo
from attnzoo.blocks import LocalAttention
from attnzoo.errors import CheckpointError, OptionError
from attnzoo.reference import VGG16WithAttention, load_published, vgg16_with_attention

NUM_CLASSES = 3


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A checkpoint in the published layout, of a network whose signal neither dies nor explodes."""
    with torch.device("meta"):
        shapes = vgg16_with_attention(NUM_CLASSES).state_dict()
    state = {key: torch.zeros(value.shape) for key, value in shapes.items()}
    for value in state.values():
        fan_in = value[0].numel() if value.ndim > 1 else 100
        # random numbers for all of the two large layers would take most of this file's time
        step = 64 if value.numel() > 5e6 else 1
        value.view(-1)[::step] = torch.randn(-(-value.numel() // step)) * (2 * step / fan_in) ** 0.5
    return state


@pytest.fixture(scope="module")
def reference() -> VGG16WithAttention:
    with torch.device("meta"):
        model = vgg16_with_attention(NUM_CLASSES)
    model = model.to_empty(device="cpu").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def parameters_and_macs(build: Callable[[], nn.Module]) -> tuple[int, int]:
    with torch.device("meta"):
        model = build().eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 224, 224))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


def test_figures_of_the_issue() -> None:
    parameters, macs = parameters_and_macs(torchvision.models.vgg16)
    assert (parameters, round(macs / 1e9, 3)) == (138_357_544, 15.470)
    with_attention, more_macs = parameters_and_macs(vgg16_with_attention)
    assert (with_attention, round(more_macs / 1e9, 3)) == (138_588_437, 15.580)
    assert round(100 * (with_attention / parameters - 1), 2) == 0.17
    assert round(100 * (more_macs / macs - 1), 2) == 0.71


def test_layers_are_those_of_torchvision_with_attention_before_each_pool() -> None:
    with torch.device("meta"):
        model, plain = vgg16_with_attention(), torchvision.models.vgg16()
    attention = [i for i, m in enumerate(model.features) if isinstance(m, LocalAttention)]
    assert attention == [4, 10, 18, 26, 34]
    assert all(isinstance(model.features[i + 1], nn.MaxPool2d) for i in attention)
    assert [model.features[i].channel_attention[1].in_channels for i in attention] == [
        64, 128, 256, 512, 512
    ]  # fmt: skip
    rest = [m for i, m in enumerate(model.features) if i not in attention]
    assert list(map(repr, rest)) == list(map(repr, plain.features))
    assert repr(model.avgpool) == repr(plain.avgpool)
    assert repr(model.classifier) == repr(plain.classifier)
    assert list(model.state_dict())[4:6] == [
        "features.4.channel_attention.1.weight",
        "features.4.channel_attention.1.bias",
    ]


def test_the_backbone_starts_as_torchvisions_does(monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, list[tuple[object, ...]]] = {"ours": [], "theirs": []}
    for owner, build in (("ours", VGG16WithAttention), ("theirs", torchvision.models.vgg16)):

        def record(kind: str, log: list[tuple[object, ...]]) -> Callable[..., None]:
            def init(tensor: Tensor, *args: object, **options: object) -> None:
                if tensor.shape[-2:] != (1, 1):  # LocalAttention's start has a test of its own
                    log.append((kind, tuple(tensor.shape), args, tuple(options.items())))

            return init

        with monkeypatch.context() as patch, torch.device("meta"):
            for kind in ("kaiming_normal_", "normal_"):
                patch.setattr(nn.init, kind, record(kind, started[owner]))
            build()
    assert len(started["ours"]) == 16
    assert started["ours"] == started["theirs"]


def test_it_runs_on_small_images_and_refuses_bad_class_counts() -> None:
    with torch.device("meta"):
        assert vgg16_with_attention(7)(torch.empty(2, 3, 32, 48)).shape == (2, 7)
    with pytest.raises(OptionError, match="num_classes=0 must be an integer of at least 1"):
        vgg16_with_attention(0)


def test_a_published_checkpoint_loads_into_the_reference(
    reference: VGG16WithAttention, published: dict[str, Tensor]
) -> None:
    assert load_published(reference, published) is reference
    state = reference.state_dict()
    assert all(torch.equal(state[key], value) for key, value in published.items())


def broken_checkpoints(published: dict[str, Tensor]) -> dict[str, tuple[dict[str, object], str]]:
    key = "features.10.spatial_attention.2.bias"
    less = {k: v for k, v in published.items() if not k.startswith("features.4.channel")}
    return {
        "missing": (less, r"missing: features\.4\.channel_attention\.1\.weight, .*\.3\.bias\."),
        "unexpected": ({**published, "features.36.weight": torch.ones(1)}, "ted: features.36.we"),
        "prefixed": (
            {f"module.{k}": v for k, v in published.items()},
            r"missing: features\.0\.weight.*; unexpected: module\.features\.0\.weight",
        ),
        "shape": ({**published, key: torch.zeros(2)}, r"has shape \(2,\), but \(1,\) in the model"),
        "type": ({**published, key: [0.0]}, r"2\.bias is a list, not a tensor"),
        "meta": ({**published, key: torch.zeros(1, device="meta")}, "is on the meta device"),
    }


@pytest.mark.parametrize("fault", ["missing", "unexpected", "prefixed", "shape", "type", "meta"])
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    fault: str, reference: VGG16WithAttention, published: dict[str, Tensor]
) -> None:
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.zero_()
    state, message = broken_checkpoints(published)[fault]
    with pytest.raises(CheckpointError, match=message):
        load_published(reference, state)
    assert not any(parameter.any() for parameter in reference.parameters())


def test_other_models_are_refused(published: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"Linear has no nn\.Sequential `features`"):
        load_published(nn.Linear(2, 2), published)
    with torch.device("meta"):
        plain = torchvision.models.vgg16(num_classes=NUM_CLASSES)
    with pytest.raises(CheckpointError, match=r"unexpected: features\.4\.channel.*start='paper'"):
        load_published(plain, published)


def test_the_published_checkpoint_makes_a_wrapped_vgg16_equal_to_the_reference(
    reference: VGG16WithAttention, published: dict[str, Tensor]
) -> None:
    load_published(reference, published)
    with torch.device("meta"):
        plain = torchvision.models.vgg16(num_classes=NUM_CLASSES)
    wrapped = attnzoo.wrap(plain, policy="pre-pool", block="local", start="paper")
    wrapped = load_published(wrapped.to_empty(device="cpu"), published).eval()
    attention = [m for m in wrapped.modules() if isinstance(m, LocalAttention)]
    assert len(attention) == 5
    weight = published["features.4.channel_attention.1.weight"]
    assert torch.equal(attention[0].channel_attention[1].weight, weight)
    x = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        expected = reference(x)
        assert not torch.allclose(expected[0], expected[1]), "the input did not reach the output"
        assert torch.equal(wrapped(x), expected)


def test_a_vgg16_wrapped_to_start_as_the_identity_is_refused(published: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        plain = torchvision.models.vgg16(num_classes=NUM_CLASSES)
    wrapped = attnzoo.wrap(plain, policy="pre-pool", block="local")
    with pytest.raises(CheckpointError, match=r"missing: features\.4\.\w+, features\.10.*'paper'"):
        load_published(wrapped, published)
