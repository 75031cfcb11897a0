"""What a trace shows: residual blocks, pools, transitions, MBConv, the trunk, stage ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from zoo import PlainVGG, Residual

from attnzoo.structure import (
    functional_pools,
    mbconvs,
    on_trunk,
    pool_calls,
    residual_blocks,
    stage_ends,
    transitions,
    units,
)
from attnzoo.structure.graph import ancestors, dominators, nonlinear_values
from attnzoo.tracing.probe import probe
from attnzoo.tracing.trace import Trace

SIZE = (3, 64, 64)


class Spikes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x >= 0).to(x).unsqueeze(0).cumsum(0).select(0, 0)


class Spiking(nn.Module):
    """A residual block with a neuron behind the sum, written in operations that tell no axes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.one, self.two = Neuron(), Neuron()

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.b(self.one(self.a(x))) + x)


class Neuron(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Spikes.apply(x - 1)


def test_a_spiking_residual_block() -> None:
    trace = probe(nn.Sequential(nn.Conv2d(3, 8, 1), Spiking(), nn.Conv2d(8, 8, 1)), SIZE)
    assert [block.call.path for block in residual_blocks(trace)] == ["1"]


def _trace(name: str, size: tuple[int, int, int] = SIZE) -> Trace:
    with torch.device("meta"):
        if name.startswith("timm/"):
            return probe(timm.create_model(name.removeprefix("timm/")), size)
        return probe(torchvision.models.get_model(name), size)


class Body(nn.Module):
    """Two convolutions, two norms, and a forward pass given as a function."""

    def __init__(self, function: Any, out: int = 4) -> None:
        super().__init__()
        self.function = function
        self.conv1, self.conv2 = nn.Conv2d(4, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.pool, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _inside(function: Any, **kwargs: Any) -> Trace:
    """The trace of a model in which the module `1` runs `function`."""
    return probe(nn.Sequential(nn.Conv2d(3, 4, 1), Body(function, **kwargs), nn.ReLU()), SIZE)


# --- residual blocks -----------------------------------------------------------------------------

RESIDUAL = {
    "plain": lambda m, x: x + m.conv2(F.relu(m.conv1(x))),
    "the other way round": lambda m, x: m.conv2(F.relu(m.conv1(x))) + x,
    "activation after": lambda m, x: F.relu(x + m.conv2(F.relu(m.conv1(x)))),
    "drop path": lambda m, x: x + m.drop(m.conv2(F.relu(m.conv1(x)))),
    "scaled": lambda m, x: x + 0.1 * m.conv2(F.relu(m.conv1(x))),
    "projected shortcut": lambda m, x: m.conv1(x) + m.conv2(F.relu(m.conv2(m.conv1(x)))),
    "two projections": lambda m, x: m.conv1(x) + m.conv2(F.relu(x)),
    "concatenated": lambda m, x: torch.cat([x + m.conv2(F.relu(m.conv1(x))), x], 1)[:, :4],
    "gated branch": lambda m, x: x + m.conv1(x) * m.conv2(x),
    "two additions": lambda m, x: (y := x + m.conv1(F.relu(x))) + m.conv2(F.gelu(y)),
}
NOT_RESIDUAL = {
    "no addition": lambda m, x: m.conv2(F.relu(m.conv1(x))),
    "linear branches": lambda m, x: m.conv1(x) + m.conv2(x) + x,  # re-parameterisable
    "both bent": lambda m, x: F.relu(m.conv1(x)) + F.gelu(m.conv2(x)),
    "a number": lambda m, x: m.conv1(x) + 1,
    "a vector": lambda m, x: m.conv1(x) + F.relu(x).mean((2, 3), keepdim=True),
    "far from the output": lambda m, x: m.conv2(x + m.conv1(F.relu(x))),
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_additions_that_make_a_residual_block(name: str) -> None:
    trace = _inside(RESIDUAL[name])
    (block,) = residual_blocks(trace)
    assert block.call.path == "1"
    assert len(block.additions) == (2 if name == "two additions" else 1)
    addition = block.additions[0]
    assert trace.ops[addition.op].name == "add"
    assert {addition.branch, addition.shortcut} == set(trace.ops[addition.op].inputs)
    # whatever the order of writing, the branch is the operand with the non-linearity
    bent = nonlinear_values(trace) & ancestors(trace)[addition.branch]
    assert bent & ~ancestors(trace)[addition.shortcut]


@pytest.mark.parametrize("name", NOT_RESIDUAL)
def test_additions_that_make_none(name: str) -> None:
    assert residual_blocks(_inside(NOT_RESIDUAL[name])) == ()


def test_the_model_itself_is_no_block() -> None:
    assert residual_blocks(probe(Residual(3), SIZE)) == ()


def test_an_addition_as_a_module_belongs_to_the_block_around_it() -> None:
    class Add(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.add = nn.Conv2d(4, 4, 1), Add()

        def forward(self, x: Tensor) -> Tensor:
            return self.add(x, F.relu(self.conv(x)))

    trace = probe(nn.Sequential(nn.Conv2d(3, 4, 1), Block()), SIZE)
    assert [block.call.path for block in residual_blocks(trace)] == ["1"]


def test_a_block_inside_a_block_is_part_of_it() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Residual(4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    trace = probe(nn.Sequential(nn.Conv2d(3, 4, 1), Outer(), Residual(4)), SIZE)
    assert [block.call.path for block in residual_blocks(trace)] == ["1", "2"]


def test_blocks_of_the_same_class_without_a_shortcut_belong_too() -> None:
    blocks = residual_blocks(_trace("mobilenet_v2"))
    assert len(blocks) == 17
    assert sum(not block.additions for block in blocks) == 7


# --- pools ---------------------------------------------------------------------------------------


def test_pools_are_told_by_what_they_do() -> None:
    class Pool(nn.Module):  # not of a class that anybody knows
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, ::2, ::2]

    class Resize(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=0.5)

    layers = [
        nn.Conv2d(3, 4, 3),
        nn.MaxPool2d(2),
        nn.Sequential(nn.AvgPool2d(2), nn.Identity()),
        nn.AvgPool2d(3, 1, 1),
        Pool(),
        nn.LPPool2d(2, 2),
        nn.Conv2d(4, 4, 2, stride=2),
        Resize(),
        nn.AdaptiveMaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
    ]
    paths = [call.path for call in pool_calls(probe(nn.Sequential(*layers), (3, 128, 128)))]
    assert paths == ["1", "2.0", "4", "5"]


@pytest.mark.parametrize(
    ("size", "kernel", "count"), [(2, 2, 1), (3, 3, 1), (7, 7, 0), (14, 7, 1), (4, 2, 1)]
)
def test_a_pool_that_leaves_one_pixel(size: int, kernel: int, count: int) -> None:
    """VGG's last pool on small images is one; a 7×7 pool before a classifier is not."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(kernel))
    assert len(pool_calls(probe(model, (3, size, size)))) == count


def test_pools_called_as_functions() -> None:
    trace = _inside(lambda m, x: F.max_pool2d(m.conv1(x), 2))
    (pool,) = functional_pools(trace)
    assert (pool.host.path, pool.producer.path) == ("1", "1.conv1")
    assert pool_calls(trace) == ()
    known = {
        "back over a function": lambda m, x: F.max_pool2d(F.relu(m.conv1(x)), 2),
        "read by others": lambda m, x: F.max_pool2d(y := m.conv1(x), 2) + y[:, :, ::2, ::2],
    }
    for function in known.values():
        (pool,) = functional_pools(_inside(function))
        assert (pool.producer.path, pool.first) == ("1.conv1", False)
    unknown = {
        "made of two": lambda m, x: F.max_pool2d(m.conv1(x) + m.conv2(x), 2),
        "a step that others read": lambda m, x: (
            F.max_pool2d(F.relu(y := m.conv1(x)), 2) + y[:, :, ::2, ::2]
        ),
        "called twice": lambda m, x: F.max_pool2d(m.conv1(m.conv1(x)), 2),
        "read by others before": lambda m, x: F.max_pool2d(x, 2) + m.pool(m.conv1(x)),
    }
    for function in unknown.values():
        (pool,) = functional_pools(_inside(function))
        assert (pool.producer, pool.first) == (None, False)
    (pool,) = functional_pools(_inside(lambda m, x: m.conv1(F.max_pool2d(x, 2))))
    assert (pool.producer, pool.first, pool.host.path) == (None, True, "1")
    none = {
        "global": lambda m, x: F.avg_pool2d(m.conv1(x), 64),
        "same size": lambda m, x: F.avg_pool2d(m.conv1(x), 3, 1, 1),
        "adaptive": lambda m, x: F.adaptive_avg_pool2d(m.conv1(x), 2),
        "in a module": lambda m, x: m.pool(m.conv1(x)),
    }
    for name, function in none.items():
        assert functional_pools(_inside(function)) == (), name


def test_a_pool_over_a_sequence_is_none() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool1d(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.pool(x.flatten(2))
            y = F.avg_pool1d(y, 2, 2)
            return F.avg_pool2d(y[:, None], (1, 2)).sum((1, 2, 3))

    trace = probe(nn.Sequential(nn.Conv2d(3, 4, 1), Sequence()), SIZE)
    assert pool_calls(trace) == ()
    assert functional_pools(trace) == ()


# --- transitions, MBConv, trunk -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["densenet121", "timm/densenet121"])
def test_transitions(name: str) -> None:
    found = transitions(_trace(name))
    assert [layer.convolution.path for layer in found] == [
        f"features.transition{i}.conv" for i in (1, 2, 3)
    ]
    assert [layer.pool.path for layer in found] == [
        f"features.transition{i}.pool" for i in (1, 2, 3)
    ]
    assert transitions(_trace("vgg11")) == transitions(_trace("resnet18")) == ()


def test_transitions_without_a_pool() -> None:
    found = transitions(_trace("timm/rdnet_tiny"))
    assert [layer.convolution.path for layer in found] == [
        f"dense_stages.{i}.1" for i in range(1, 7)
    ]
    assert {layer.pool for layer in found} == {None}
    for name in (
        "timm/selecsls84",
        "timm/dpn48b",
        "timm/ese_vovnet19b_slim",
        "timm/cspresnet50",
        "timm/dla34",
    ):
        assert transitions(_trace(name)) == (), name


class Decoded(nn.Module):
    """A DenseNet of which all levels go into the output, the finest one too."""

    def __init__(self) -> None:
        super().__init__()
        taken = {name: name for name in ("denseblock1", "denseblock2", "norm5")}
        features = torchvision.models.densenet121().features
        self.encoder, self.narrow = IntermediateLayerGetter(features, taken), nn.Conv2d(1024, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine, *coarse = self.encoder(x).values()
        coarse[-1] = self.narrow(coarse[-1])  # as a transition would
        return torch.cat([fine, *(F.interpolate(y, fine.shape[2:]) for y in coarse)], 1)


def _pyramid() -> nn.Module:
    features = torchvision.models.densenet121().features
    taken = {"denseblock2": "0", "denseblock3": "1", "norm5": "2"}
    return BackboneWithFPN(features, taken, [512, 1024, 1024], 64)


@pytest.mark.parametrize(("build", "part"), [(Decoded, "encoder"), (_pyramid, "body")])
def test_transitions_of_an_encoder(build: Callable[[], nn.Module], part: str) -> None:
    with torch.device("meta"):
        found = transitions(probe(build(), SIZE))
    paths = [layer.convolution.path for layer in found]
    assert paths == [f"{part}.transition{i}.conv" for i in (1, 2, 3)]


def test_mbconv_blocks_and_their_excitation() -> None:
    trace = _trace("efficientnet_b0")
    blocks = mbconvs(trace)
    assert len(blocks) == 16
    assert all(block.excite.type == "SqueezeExcitation" for block in blocks)
    assert all(trace.values[block.middle].is_map for block in blocks)
    blocks = mbconvs(_trace("mobilenet_v2"))
    assert [block.call.path for block in blocks] == [f"features.{i}" for i in range(1, 18)]
    assert all(block.excite is None for block in blocks)
    blocks = mbconvs(_trace("timm/efficientnetv2_rw_t"))
    assert {block.middle is None for block in blocks} == {False}  # fused blocks are another class
    blocks = mbconvs(_trace("timm/mobilenetv3_small_050"))
    assert sum(block.excite is not None for block in blocks) == 9
    for name in ("resnet18", "mnasnet0_5", "timm/convnext_atto", "timm/regnety_002"):
        assert (mbconvs(_trace(name)) == ()) == (name != "mnasnet0_5"), name


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("timm/mixnet_s", 16),  # several convolutions side by side, each on some of the channels
        ("timm/mobilenetv4_conv_medium", 21),  # a depthwise convolution before the expansion
        ("timm/efficientnet_b0_g8_gn", 16),  # groups of eight channels
        ("timm/dpn48b", 0),  # groups in a bottleneck
        ("timm/resnext26ts", 0),
    ],
)
def test_mbconv_blocks_of_other_convolutions(name: str, count: int) -> None:
    blocks = mbconvs(_trace(name))
    assert len(blocks) == count


# --- where resolution levels end ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        (
            "timm/hrnet_w18_small",
            [
                "act1",
                "layer1.0",
                "stage3.0.branches.1.1",
                "stage4.0.branches.2.1",
                "incre_modules.3.0",
            ],
        ),
        (
            "timm/selecsls42",
            [
                "stem.2",
                *(f"features.{i}.conv6.2" for i in (1, 3, 5)),
                "head.1.2",
                "head.3.2",
            ],
        ),
        ("timm/nasnetalarge", ["conv0.bn.act", "cell_stem_0", "cell_5", "cell_11", "cell_17"]),
        ("timm/ghostnetv2_100", [f"blocks.{i}" for i in ("0.0", "2.0", "4.0", "6.4", "8.3")]),
        ("lraspp_mobilenet_v3_large", [f"backbone.{i}" for i in (1, 3, 6, 15)]),
        (
            "deeplabv3_mobilenet_v3_large",
            [*(f"backbone.{i}" for i in (1, 3, 6)), "classifier.0"],
        ),
        (
            "fasterrcnn_resnet50_fpn",
            ["backbone.body.relu"]
            + [f"backbone.body.layer{i}.{n}" for i, n in enumerate([2, 3, 5, 2], 1)],
        ),
    ],
)
def test_stage_ends_beside_a_trunk(name: str, paths: list[str]) -> None:
    with torch.device("meta"):
        if name.startswith("timm/"):
            model = timm.create_model(name.removeprefix("timm/"))
        else:
            none = {"weights_backbone": None} if "_" in name else {}
            model = torchvision.models.get_model(name, **none)
    assert [unit.call.path for unit in stage_ends(probe(model))] == paths


def test_separable_convolutions_are_no_mbconv() -> None:
    assert mbconvs(_trace("timm/mobilenetv1_100")) == ()
    assert mbconvs(_trace("timm/xception41")) == ()


def test_the_trunk() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = (nn.Conv2d(3, 3, 1) for _ in range(3))
            self.join, self.unused = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            self.unused(x)
            return self.join(torch.cat([self.left(x), self.right(x)], 1))

    trace = probe(Forked(), SIZE)
    on = {c.path for c in trace.calls if on_trunk(trace, c.outputs[0])}
    assert on == {"", "stem", "join"}
    assert [unit.call.path for unit in units(trace)] == ["stem", "join"]


def test_units_are_layers_and_whole_blocks() -> None:
    found = units(_trace("resnet18"))
    paths = [unit.call.path for unit in found]
    assert paths == [
        "conv1", "bn1", "relu", "maxpool",
        *(f"layer{i}.{j}" for i in range(1, 5) for j in range(2)), "avgpool",
    ]  # fmt: skip
    assert [unit.is_block for unit in found] == [False] * 4 + [True] * 8 + [False]
    assert [u.call.path for u in units(probe(PlainVGG(), SIZE))] == [
        *(f"features.{i}" for i in range(7)), "avgpool",
    ]  # fmt: skip


def test_dominators_and_ancestors_against_their_definition() -> None:
    trace = probe(
        nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4), Body(RESIDUAL["gated branch"])), SIZE
    )
    sources = [trace.ops[v.op].inputs if v.op >= 0 else () for v in trace.values]

    def reaches(value: int, without: int) -> bool:
        """Whether some path from an input to `value` avoids `without`."""
        if value == without:
            return False
        return not sources[value] or any(reaches(source, without) for source in sources[value])

    for value, closest in enumerate(dominators(trace)):
        below = [v for v in range(value) if ancestors(trace)[value] >> v & 1]
        passed = [v for v in below if not reaches(value, v)]
        assert closest == max(passed, default=-1)
        assert set(below) == {
            v for v in below if ancestors(trace)[v] & ~ancestors(trace)[value] == 0
        }


def test_a_pool_that_returns_indices_is_a_pool() -> None:
    class Unpools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, return_indices=True)
            self.unpool = nn.MaxUnpool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.unpool(*self.pool(self.conv(x)))

    trace = probe(Unpools(), (3, 34, 34))
    assert [call.path for call in pool_calls(trace)] == ["pool"]
    assert functional_pools(trace) == ()


def test_stage_ends_of_a_graph_module() -> None:
    """Of a traced network only the layers are left, called by one module that returns a list."""
    model = timm.create_model("resnet10t", features_only=True, feature_cls="fx")
    ends = [unit.call.path for unit in stage_ends(probe(model, SIZE))]
    assert ends == ["graph_module.act1", *(f"graph_module.layer{i}.0.act2" for i in range(1, 5))]
