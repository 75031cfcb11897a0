"""Networks as people write them: in tutorials, in repositories that many start from, by hand.

None of their classes is known to attnzoo. Each is a shortened version, written for this test, of a
way of writing a network that is common; the table says where every policy should find a place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo import conv, same_bits, snapshot

import attnzoo
from attnzoo.errors import NoSitesError
from attnzoo.hosts.attention import Attention
from attnzoo.policies.auto import choose
from attnzoo.tracing.probe import probe
from attnzoo.tracing.trace import Trace


class OnePool(nn.Module):
    """One pool for all levels, `relu` as a function: PyTorch's first tutorial on images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool, self.fc = nn.MaxPool2d(2, 2), nn.Linear(16 * 5 * 5, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.fc(torch.flatten(x, 1))


class OneOfEach(OnePool):
    """The same with one ReLU module for all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc(torch.flatten(x, 1))


class Functions(nn.Module):
    """Pools and activations as functions, a dropout between: the usual network for MNIST."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 10, 5), nn.Conv2d(10, 20, 5)
        self.drop, self.fc = nn.Dropout2d(), nn.Linear(20 * 5 * 5, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.max_pool2d(F.relu(self.drop(self.conv2(x))), 2)
        return F.log_softmax(self.fc(x.flatten(1)), dim=1)


class PoolsFirst(nn.Module):
    """A block that first pools what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.max_pool2d(x, 2))


class Written(nn.Module):
    """Shortcuts written out in the forward pass of the network, as in a “ResNet-9”."""

    def __init__(self) -> None:
        super().__init__()
        self.prep, self.layer1 = conv(3, 8), conv(8, 16, pool=True)
        self.res1 = nn.Sequential(conv(16, 16), conv(16, 16))
        self.layer2 = conv(16, 32, pool=True)
        self.res2 = nn.Sequential(conv(32, 32), conv(32, 32))
        self.head = nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 2 * 2, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.prep(x))
        x = self.res1(x) + x
        x = self.layer2(x)
        x = F.relu(self.res2(x) + x)
        return self.head(x)


class Stage(nn.Module):
    """A module that runs several blocks and adds their shortcuts, the last one projected."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
            for _ in range(3)
        )
        self.project, self.act = nn.Conv2d(8, 8, 1), nn.ReLU()
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks[:2]:
            x = x + block(x)
        x = self.act(self.blocks[2](x) + self.project(x))
        return self.out(x)


class Dense(nn.Module):
    """A DenseNet that joins each new feature with all before it; its pools are functions."""

    class Layer(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(given), nn.Conv2d(given, 6, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.conv(F.relu(self.norm(x))), x], 1)

    class Transition(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(given), nn.Conv2d(given, given // 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)

    def __init__(self) -> None:
        super().__init__()
        self.stem, channels = nn.Conv2d(3, 12, 3, padding=1), 12
        for number in (1, 2, 3):
            layers = [self.Layer(channels + 6 * i) for i in range(4)]
            setattr(self, f"dense{number}", nn.Sequential(*layers))
            channels += 24
            if number < 3:
                setattr(self, f"trans{number}", self.Transition(channels))
                channels //= 2
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.dense1(self.stem(x)))
        x = self.dense3(self.trans2(self.dense2(x)))
        return self.fc(F.avg_pool2d(F.relu(x), 8).flatten(1))


class Inceptive(nn.Module):
    """Concatenations within concatenations that are no dense block."""

    class Block(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(given, 8, 1), nn.Conv2d(given, 8, 1)
            self.wide, self.high = nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 8, (3, 1))

        def forward(self, x: Tensor) -> Tensor:
            y = self.two(x)
            split = [self.wide(F.pad(y, (1, 1))), self.high(F.pad(y, (0, 0, 1, 1)))]
            return torch.cat([self.one(x), torch.cat(split, 1)], 1)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.narrow = conv(3, 8), self.Block(8), nn.Conv2d(24, 8, 1)
        self.pool, self.second = nn.MaxPool2d(2), self.Block(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.pool(self.narrow(self.first(self.stem(x))))).mean((2, 3))


class UNet(nn.Module):
    """Pools as functions, on maps that a skip connection reads as well."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv(3, 8), conv(8, 16), conv(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join2, self.join1, self.out = conv(32, 16), conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        y = self.bottom(F.max_pool2d(b, 2))
        y = self.join2(torch.cat([self.up2(y), b], 1))
        return self.out(self.join1(torch.cat([self.up1(y), a], 1)))


class LinkNet(nn.Module):
    """A decoder whose skip connections are sums, which are no residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8, pool=True), conv(8, 16, pool=True), conv(16, 32)
        self.squeeze = nn.Conv2d(32, 16, 1)
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        y = self.squeeze(self.c(b)) + b
        return self.out(self.up(y) + a)


class Denoiser(nn.Module):
    """Subtracts the noise that it finds: what its last convolution makes is an image."""

    def __init__(self) -> None:
        super().__init__()
        last = nn.Conv2d(8, 3, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), conv(8, 8), last)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.body(x)


class Restorer(Denoiser):
    """Adds what is missing in the image, which is no shortcut around a block."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SuperResolution(nn.Module):
    """Residual blocks that scale their branch, within a long shortcut around them all."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(True), nn.Conv2d(8, 8, 3, padding=1)
            self.body = nn.Sequential(*layers)

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x).mul(0.1)
            y += x
            return y

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(self.Block(), self.Block(), nn.Conv2d(8, 8, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        y = self.body(x)
        y += x
        return self.tail(y)


class Discriminator(nn.Module):
    """Strides instead of pools; its last convolution gives scores."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(8, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(16, 1, 4), nn.Sigmoid()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


#: Network → policy → its places, in forward order; a policy that is not named finds none.
PLACES: dict[Callable[[], nn.Module], dict[str, str]] = {
    OnePool: {"pre-pool": "after conv1, after conv2", "stage-end": "after conv1, after conv2"},
    OneOfEach: {"pre-pool": "after conv1, after conv2", "stage-end": "after conv1, after conv2"},
    Functions: {"pre-pool": "after conv1, after drop", "stage-end": "after conv1, after drop"},
    lambda: nn.Sequential(conv(3, 8), PoolsFirst()): {
        "pre-pool": "before 1",
        "stage-end": "after 0.2, after 1.conv.2",
    },
    Written: {
        "pre-pool": "before layer1.3, before layer2.3, before head.0",
        "post-residual": "before layer2, before head",
        "in-residual": "after res1.1.2, after res2.1.2",
        "stage-end": "after layer1.2, after layer2.2, after res2.1.2",
    },
    lambda: nn.Sequential(conv(3, 8), Stage()): {
        "post-residual": "after 1.act",
        "in-residual": "after 1.blocks.0.2, after 1.blocks.1.2, after 1.blocks.2.2",
        "stage-end": "after 1",
    },
    Dense: {
        "pre-pool": "after trans1.conv, after trans2.conv",
        "transition": "after trans1.conv, after trans2.conv",
        "stage-end": "after dense1.3, after dense2.3, after dense3.3",
    },
    Inceptive: {"pre-pool": "before pool", "stage-end": "after first, after second"},
    UNet: {
        "pre-pool": "after down1, after down2",
        "stage-end": "after down1.2, after down2.2, after bottom.2",
        "decoder": "after join2, after join1",
    },
    LinkNet: {
        "pre-pool": "before a.3, before b.3",
        "stage-end": "after a.2, after b.2, after squeeze",
        "decoder": "before out",
    },
    Denoiser: {"stage-end": "after body.2.2"},
    Restorer: {"stage-end": "after body.2.2"},
    SuperResolution: {
        "post-residual": "after body.0, after body.1",
        "in-residual": "after body.0.body.2, after body.1.body.2",
        "stage-end": "after body.1",
    },
    Discriminator: {"stage-end": "after main.1, after main.4"},
}
POLICIES = [p for p in attnzoo.list_policies() if p not in ("match", "auto")]
AUTO = {
    **dict.fromkeys((OnePool, OneOfEach, Functions), "pre-pool"),
    **dict.fromkeys((Written, SuperResolution), "post-residual"),
    Dense: "transition",
    Inceptive: "pre-pool",
    **dict.fromkeys((UNet, Denoiser, Restorer, Discriminator), "stage-end"),
}
SIZE = (3, 32, 32)


def _places(model: nn.Module, policy: str) -> str:
    try:
        sites = attnzoo.plan(model, policy, example=SIZE).sites
    except NoSitesError:
        return ""
    return ", ".join(f"{site.where} {site.path}" for site in sites)


@pytest.mark.parametrize("build", PLACES, ids=lambda build: build.__name__)
def test_every_policy_finds_its_places(build: Callable[[], nn.Module]) -> None:
    model = build().eval()
    assert {p: found for p in POLICIES if (found := _places(model, p))} == PLACES[build]


@pytest.mark.parametrize("build", AUTO, ids=lambda build: build.__name__)
def test_auto_takes_what_fits(build: Callable[[], nn.Module]) -> None:
    (policy,) = attnzoo.plan(build(), example=SIZE).recipe.policies
    assert policy.name == AUTO[build]


@pytest.mark.parametrize("build", PLACES, ids=lambda build: build.__name__)
def test_nothing_breaks_and_attention_learns(build: Callable[[], nn.Module]) -> None:
    plain = build().eval()
    x = torch.rand(2, *SIZE)
    before = plain(x)
    for policy in PLACES[build]:
        model = copy.deepcopy(plain)
        untouched = snapshot(model)
        attnzoo.wrap(model, policy, "se", example=SIZE)
        assert same_bits(model(x), before)
        attentions = [m for m in model.modules() if isinstance(m, Attention)]
        (model.train()(x) ** 2).mean().backward()
        assert all(attention.gamma.grad.isfinite().all() for attention in attentions)
        assert all(attention.gamma.grad.any() for attention in attentions)
        model.zero_grad(set_to_none=True)
        assert _modules(attnzoo.unwrap(model.eval())) == [row[:3] for row in untouched]


def _modules(model: nn.Module) -> list[tuple[Any, ...]]:
    return [row[:3] for row in snapshot(model)]


class Handing(nn.Module):
    """A block that at some places of a network does nothing, and hands on what it is given."""

    def __init__(self, active: bool) -> None:
        super().__init__()
        self.body = conv(8, 8) if active else None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.body is None else self.body(x) + x


class AddsByModule(nn.Module):
    """The sum with the shortcut is a module's, as networks that are quantised have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.last = conv(3, 8), conv(8, 8), nn.Conv2d(8, 4, 1)
        self.add = nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.add.add(self.body(x), x))


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class SumsByModule(AddsByModule):
    def __init__(self) -> None:
        super().__init__()
        self.add = Sum()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.add(self.body(x), x))


def test_sums_that_are_modules() -> None:
    assert _places(AddsByModule(), "post-residual") == "before last"
    assert _places(SumsByModule(), "post-residual") == "after add"


def test_a_long_way_from_the_last_convolution_to_the_output() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = conv(3, 8), nn.Conv2d(8, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.last(self.conv(x))
            for _ in range(60):  # twice as many ways back each time
                y = y * 0.5 + y
            return y

    assert _places(Doubling(), "stage-end") == "after conv.2"


def test_a_place_that_two_blocks_share_is_one_place() -> None:
    model = nn.Sequential(conv(3, 8), Handing(True), Handing(False), Handing(True))
    assert _places(model, "post-residual") == "after 1, after 3"


@pytest.mark.parametrize("only", ["in-residual", "pre-pool"])
def test_auto_takes_what_has_a_place_at_all(only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = probe(nn.Conv2d(3, 3, 1), SIZE)
    assert choose(trace) == "stage-end"
    place = [trace.after(trace.calls[0])]

    def sites(trace: Trace, name: str, trunk_only: bool = False) -> list[Any]:
        return place if name == only and not trunk_only else []

    monkeypatch.setattr("attnzoo.policies.auto._sites", sites)
    assert choose(trace) == only


def test_a_pool_in_the_stem_makes_no_vgg() -> None:
    stem = conv(3, 8, pool=True)
    strides = [nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    (policy,) = attnzoo.plan(nn.Sequential(stem, *strides), example=SIZE).recipe.policies
    assert policy.name == "stage-end"


def test_a_pool_for_two_maps_leaves_the_others_their_places() -> None:
    class TwoInOne(nn.Module):
        """One pool for a map and for the same map moved, which no module makes (Shake-Shake)."""

        def __init__(self) -> None:
            super().__init__()
            self.pool, self.conv = nn.AvgPool2d(2), nn.Conv2d(16, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.cat([self.pool(x), self.pool(x.roll(1, -1))], 1))

    model = nn.Sequential(conv(3, 8, pool=True), TwoInOne(), nn.MaxPool2d(2))
    assert _places(model, "pre-pool") == "before 0.3, before 2"
    with pytest.raises(NoSitesError, match="at pool: it is called 2 times, and no single module"):
        attnzoo.plan(TwoInOne(), "pre-pool", example=(8, 16, 16))


@pytest.mark.parametrize("count", [3, 4])
def test_a_long_shortcut_around_blocks_makes_no_block_of_them(count: int) -> None:
    class Group(nn.Module):
        """RCAN's has twenty blocks, and is a stage; ESRGAN's has three, and is the block."""

        def __init__(self) -> None:
            super().__init__()
            blocks = [SuperResolution.Block() for _ in range(count)]
            self.body = nn.Sequential(*blocks, nn.Conv2d(8, 8, 3, padding=1))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) + x

    model = nn.Sequential(conv(3, 8), Group(), Group())
    blocks = [f"after {group}.body.{i}" for group in (1, 2) for i in range(count)]
    assert _places(model, "post-residual") == (
        "after 1, after 2" if count == 3 else ", ".join(blocks)
    )


def test_one_transition_among_many_levels_makes_no_densenet() -> None:
    levels = [conv(3, 8, pool=True), *(conv(8, 8, pool=True) for _ in range(3))]
    dense = [Dense.Layer(8), Dense.Layer(14), Dense.Layer(20), Dense.Transition(26), conv(13, 13)]
    trace = probe(nn.Sequential(*dense), (8, 32, 32))
    assert choose(trace) == "transition"
    trace = probe(nn.Sequential(*levels, *dense), (3, 64, 64))
    assert len(attnzoo.plan(nn.Sequential(*levels, *dense), "transition").sites) == 1
    assert choose(trace) == "pre-pool"


def test_a_gate_without_a_module_leaves_no_place_on_the_branch() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = conv(8, 8), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y = y * torch.sigmoid(self.gate(F.avg_pool2d(y, y.shape[-1])))
            return F.relu(y + x)

    model = nn.Sequential(conv(3, 8), Gated())
    with pytest.raises(NoSitesError, match="at 1: no module makes the feature map there"):
        attnzoo.plan(model, "in-residual", example=SIZE)
    assert _places(model, "post-residual") == "after 1"


def test_one_network_for_two_images_is_wrapped_by_itself() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Written()

        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return (self.backbone(one) - self.backbone(other)).norm(dim=1)

    model, pair = Twins().eval(), (torch.rand(2, *SIZE), torch.rand(2, *SIZE))
    before = model(*pair)
    line = r"attnzoo.wrap\(model.backbone, …, example=\(3, 32, 32\)\)"
    with pytest.raises(NoSitesError, match=f"called 2 times in one forward pass.*{line}"):
        attnzoo.wrap(model, "pre-pool", example=pair)
    attnzoo.wrap(model.backbone, "in-residual", example=SIZE)
    assert same_bits(model(*pair), before)


def test_maps_of_one_dimension_are_named() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.MaxPool1d(2))
    with pytest.raises(NoSitesError, match=r"\(1, 8, 30\).*\(N, C, H, W\)"):
        attnzoo.plan(model, example=torch.rand(1, 3, 32))
