"""The trace as data: calls, operations, values, and sites made from them."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from zoo import BACKBONES, PlainVGG, Residual

from attnzoo.errors import SiteError
from attnzoo.tracing.probe import probe
from attnzoo.tracing.sites import Site, Skipped
from attnzoo.tracing.trace import Trace

SIZE = (3, 64, 64)


@pytest.fixture(scope="module")
def vgg() -> Trace:
    return probe(PlainVGG(), SIZE)


def test_calls_and_their_relations(vgg: Trace) -> None:
    root, features, conv = vgg.calls[:3]
    assert (root.path, root.type, root.parent) == ("", "PlainVGG", -1)
    assert vgg.parent(root) is None
    assert vgg.parent(conv) is features
    assert [call.path for call in vgg.enclosing(conv)] == ["features", ""]
    assert [call.path for call in vgg.children(root)] == ["features", "avgpool", "classifier"]
    assert [call.path for call in vgg.children(features)] == [f"features.{i}" for i in range(7)]
    assert list(features.inside) == [call.index for call in vgg.children(features)]
    assert list(root.ops) == list(range(len(vgg.ops)))
    assert all(op in features.ops for call in vgg.children(features) for op in call.ops)
    assert root.inputs == features.inputs == conv.inputs
    assert features.outputs == vgg.children(features)[-1].outputs
    assert vgg.outputs == root.outputs


def test_operations(vgg: Trace) -> None:
    names = [op.name for op in vgg.ops]
    assert names[:4] == ["convolution", "relu", "max_pool2d_with_indices", "convolution"]
    conv, _, pool = vgg.ops[:3]
    assert (conv.kernel, conv.groups, conv.weight) == ((3, 3), 1, (8, 3, 3, 3))
    assert (pool.kernel, pool.weight) == ((2, 2), ())
    for op in vgg.ops:
        assert all(op.index in vgg.users(value) for value in op.inputs)
        assert all(vgg.values[value].op == op.index for value in op.outputs)
        assert op.index in vgg.calls[op.call].ops
    assert vgg.users(vgg.outputs[0]) == ()


def test_who_returns_and_takes_a_value(vgg: Trace) -> None:
    pool = next(call for call in vgg.calls if call.path == "features.2")
    assert [call.path for call in vgg.returning(pool.inputs[0])] == ["features.1"]
    assert [call.path for call in vgg.taking(pool.inputs[0])] == ["features.2"]
    last = vgg.calls[1].outputs[0]
    assert [call.path for call in vgg.returning(last)] == ["features", "features.6"]
    assert [call.path for call in vgg.taking(last)] == ["avgpool"]
    assert [call.path for call in vgg.taking(vgg.calls[0].inputs[0])] == [
        "",
        "features",
        "features.0",
    ]
    assert vgg.returning(-5) == []


def test_values(vgg: Trace) -> None:
    given, made = vgg.values[0], vgg.values[1]
    assert (given.op, given.shape, given.axes, given.is_map) == (-1, (1, 3, 64, 64), "NCHW", True)
    assert (made.op, made.channels, made.height, made.width) == (0, 8, 64, 64)
    assert not vgg.values[vgg.outputs[0]].is_map


def test_modules(vgg: Trace) -> None:
    kinds = {path: info.kind for path, info in vgg.modules.items()}
    assert kinds[""] == "composite"
    assert kinds["features"] == "sequential"
    assert kinds["features.0"] == kinds["avgpool"] == "leaf"
    assert {path for path, info in vgg.modules.items() if not info.has_state} == {
        "features.1", "features.2", "features.5", "features.6", "avgpool",
    }  # fmt: skip
    assert vgg.modules["features.4"].qualname == "torch.nn.modules.batchnorm.BatchNorm2d"
    assert not any(info.is_attention for info in vgg.modules.values())


def test_kinds_of_modules() -> None:
    class OwnForward(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    class Layer(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 3, 1)
            self.act = nn.ReLU()

    model = nn.ModuleDict(
        {
            "own": OwnForward(nn.ReLU()),
            "derived": torchvision.ops.Conv2dNormActivation(3, 3, 1),
            "layer": Layer(),
            "list": nn.ModuleList([nn.ReLU()]),
            "empty": nn.Module(),
            "sequential": nn.Sequential(),
            "block": Residual(3),
            "attention": nn.MultiheadAttention(4, 2),
        }
    )
    model.forward = lambda x: x + 1
    kinds = {path: info.kind for path, info in probe(model, SIZE).modules.items()}
    assert kinds == {
        **dict.fromkeys(kinds, "leaf"),
        "": "container",
        "own": "composite",
        "derived": "sequential",
        "list": "container",
        "sequential": "sequential",
        "block": "composite",
    }


def test_stages_are_resolution_levels() -> None:
    with torch.device("meta"):
        resnet = torchvision.models.resnet18()
        inception = torchvision.models.inception_v3(init_weights=False)
    trace = probe(resnet, (3, 224, 224))
    stages = {
        call.path: trace.stage(trace.output_map(call))
        for call in trace.calls
        if trace.output_map(call) is not None
    }
    assert [stages[p] for p in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4")] == [
        1, 2, 2, 3, 4, 5,
    ]  # fmt: skip
    assert stages["avgpool"] == 6
    # unpadded convolutions (149 → 147) stay within a level
    trace = probe(inception, (3, 299, 299))
    heights = {}
    for call in trace.calls:
        value = trace.output_map(call)
        if value is not None and value.height > 1:
            heights.setdefault(trace.stage(value), set()).add(value.height)
    assert list(map(sorted, heights.values()))[:2] == [[147, 149], [71, 73]]


def test_sites_carry_their_map() -> None:
    trace = probe(BACKBONES["timm/mambaout_femto"](), (3, 96, 64))
    call = next(call for call in trace.calls if call.type == "GatedConvBlock")
    site = trace.after(call)
    assert (site.axes, site.height / site.width) == ("NHWC", 1.5)
    assert site == Site(site.path, "after", site.channels, site.height, site.width, 2, "NHWC")
    assert str(site) == f"after {call.path} ({site.channels}×{site.height}×{site.width})"
    assert trace.before(call).where == "before"
    assert trace.replace(call).where == "replace"
    assert str(Skipped("", "no reason")) == "the root: no reason"


def test_places_that_are_none(vgg: Trace) -> None:
    classifier, pool = vgg.calls[-1], vgg.calls[4]
    with pytest.raises(SiteError, match=r"\(Linear\) returns \(1, 5\): .* one feature"):
        vgg.after(classifier)
    with pytest.raises(SiteError, match=r"takes \(1, 64\)"):
        vgg.before(classifier)
    assert pool.type == "MaxPool2d"
    with pytest.raises(SiteError, match="changes the shape of its feature map"):
        vgg.replace(pool)
    assert vgg.after(pool).height == 32
    assert vgg.before(pool).height == 64
