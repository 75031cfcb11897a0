"""What all blocks that are gates have in common; and the starts of all blocks."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from zoo import same_bits

import attnzoo
from attnzoo.blocks.gated import Gated, GatedByMap
from attnzoo.errors import OptionError
from attnzoo.hosts import Attention
from attnzoo.registry import BLOCKS
from attnzoo.surgery import build_block

pytestmark = pytest.mark.no_cover

NAMES = [n for n in attnzoo.list_blocks() if BLOCKS[n].factory.__module__.startswith("attnzoo.")]
GATES = [name for name in NAMES if isinstance(attnzoo.create_block(name, 8), Gated)]
NEUTRAL = [name for name in NAMES if BLOCKS[name].neutral]
#: Which keep no more than 0.2 maps beside x.
LIGHT = [
    *("se", "ese", "eca", "local", "cbam", "coord", "scse", "bam", "spatial", "ela", "triplet"),
    *("strip", "srm", "ge", "gct", "lct", "nam", "simam", "polarized"),
]
every_gate = pytest.mark.parametrize("name", GATES)
every_neutral = pytest.mark.parametrize("name", NEUTRAL)


def attention(name: str, start: str, channels: int = 8) -> Attention:
    """As `wrap` builds it, with γ open where there is one and no zero that hides a gradient."""
    block = build_block(BLOCKS[name], channels, {}, "cpu", start)
    made = Attention(block, name, channels, gamma=start == "identity")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return made


def starts(name: str) -> list[str]:
    return ["identity", "paper", *(["neutral"] if BLOCKS[name].neutral else [])]


def test_which_blocks_are_gates() -> None:
    others = set(NAMES) - set(GATES)
    expected = "a2 affine axial conv crisscross danet gc grn mhsa none nonlocal shuffle"
    assert " ".join(sorted(others)) == expected


@every_gate
@pytest.mark.parametrize("axes", ["NCHW", "NHWC", "NCDHW"])
def test_gamma_softens_the_gates(name: str, axes: str) -> None:
    module = attention(name, "identity").eval()
    module.axes = axes
    shape = {"NCHW": (2, 8, 6, 5), "NHWC": (2, 6, 5, 8), "NCDHW": (2, 8, 3, 6, 5)}[axes]
    x = torch.randn(shape)
    images = {
        "NCHW": lambda t: t,
        "NHWC": lambda t: t.permute(0, 3, 1, 2),
        "NCDHW": lambda t: t.transpose(1, 2).flatten(0, 1),
    }[axes]
    y = images(module(x))
    gamma = module.gamma.view(1, -1, 1, 1)
    block = module.block(images(x))
    expected = images(x) + gamma * (block - images(x))
    torch.testing.assert_close(y, expected)
    assert module(x).stride() == x.stride()


@every_gate
def test_gates_are_what_watchers_see(name: str) -> None:
    """Watched, a gate is written out; the result and its gradients stay the same."""
    for start in starts(name):
        module = attention(name, start).double()
        seen: list[Tensor] = []
        x = torch.randn(2, 8, 6, 5, dtype=torch.float64, requires_grad=True)
        tensors = [x, *module.parameters()]
        module.eval()
        y = module(x)
        found = torch.autograd.grad(y.square().sum(), tensors, retain_graph=True)
        for path in BLOCKS[name].maps:
            emitter = module.block.get_submodule(path)
            emitter.register_forward_hook(lambda _m, _a, output, seen=seen: seen.append(output))
        again = module(x)
        torch.testing.assert_close(again, y)
        expected = torch.autograd.grad(again.square().sum(), tensors)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
        assert len(seen) == len(BLOCKS[name].maps)


@every_gate
def test_derivatives_with_every_start(name: str) -> None:
    """First and second, backward and forward, and of every image by itself."""
    for start in starts(name):
        module = attention(name, start, 4).double().eval()
        parameters = dict(module.named_parameters())

        def run(x: Tensor, *values: Tensor, module=module, parameters=parameters) -> Tensor:
            named = dict(zip(parameters, values, strict=True))
            return torch.func.functional_call(module, named, (x,))

        x = torch.randn(2, 4, 3, 4, dtype=torch.float64, requires_grad=True)
        values = tuple(parameters.values())
        assert gradcheck(run, (x, *values), fast_mode=True, check_forward_ad=True)
        assert gradgradcheck(run, (x, *values), fast_mode=True)

        def loss(values: tuple[Tensor, ...], image: Tensor, run=run) -> Tensor:
            return run(image[None], *values).square().sum()

        if not values:
            continue
        detached = tuple(value.detach() for value in values)
        mapped = torch.func.vmap(torch.func.grad(loss), (None, 0))(detached, x.detach())
        for number, image in enumerate(x.detach()):
            alone = torch.autograd.grad(loss(values, image), values)
            for found, expected in zip(mapped, alone, strict=True):
                torch.testing.assert_close(found[number], expected)


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("start", ["identity", "paper"])
def test_little_is_kept_beside_x(name: str, start: str) -> None:
    module = attention(name, start, 64)
    x = torch.randn(2, 64, 48, 48, requires_grad=True) * 1
    own = {t.untyped_storage().data_ptr() for t in (x, *module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> None:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda _: x):
        module(x)
    assert sum(kept.values()) <= 0.2 * x.nbytes


@every_gate
@pytest.mark.parametrize("training", [True, False])
def test_batch_statistics_move_once(name: str, training: bool) -> None:
    """Also where the backward pass makes the gates again."""
    module = attention(name, "identity").train(training)
    twin = attention(name, "identity").train(training)
    twin.load_state_dict(module.state_dict())
    x = torch.randn(4, 8, 6, 5)
    module(x.clone().requires_grad_()).sum().backward()
    with torch.no_grad():
        twin(x)
    for one, other in zip(module.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other)
        assert (one.dtype.is_floating_point and training) or torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_no_exported_graph_has_what_converters_do_not_know(name: str) -> None:
    for start in starts(name):
        module = attention(name, start).eval()
        program = torch.export.export(module, (torch.randn(2, 8, 6, 4),))
        operations = {str(node.target) for node in program.graph.nodes}
        assert not [name for name in operations if "addcmul" in name or "attnzoo" in name]


SCRIPTABLE = ["eca", "ese", "local", "polarized", "scse", "se", "simam"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCRIPTABLE)
def test_torchscript_computes_the_same(name: str) -> None:
    for start in starts(name):
        module = attention(name, start).eval()
        x = torch.randn(2, 8, 6, 4)
        torch.testing.assert_close(torch.jit.script(module)(x), module(x))


# --- the neutral start ---------------------------------------------------------------------------


@every_neutral
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_neutral_blocks_start_as_the_identity(
    name: str, training: bool, dtype: torch.dtype
) -> None:
    block = build_block(BLOCKS[name], 8, {}, "cpu", "neutral").train(training).to(dtype)
    x = torch.randn(4, 8, 5, 7).to(dtype)
    x[0], x[1, 0] = -0.0, 0.0
    assert same_bits(block(x).detach(), x)


@every_neutral
def test_neutral_attention_hands_on_whatever_axes_a_map_has(name: str) -> None:
    block = build_block(BLOCKS[name], 8, {}, "cpu", "neutral")
    for axes, shape in {"NHWC": (2, 6, 5, 8), "NCDHW": (2, 8, 3, 6, 5)}.items():
        x = torch.randn(shape)
        y = Attention(block, name, 8, gamma=False, axes=axes)(x)
        assert same_bits(y.detach(), x)
        assert y.stride() == x.stride()


@pytest.mark.parametrize("name", [n for n in NEUTRAL if not BLOCKS[n].identity_at_init])
def test_neutral_blocks_learn_from_the_first_step(name: str) -> None:
    block = build_block(BLOCKS[name], 8, {}, "cpu", "neutral")
    x = torch.randn(4, 8, 6, 6)
    (block(x) * torch.randn_like(x)).sum().backward()
    last = getattr(block, "last_layers", ()) or {
        "a2": ("project",), "conv": ("expand",), "srm": ()
    }[name]  # fmt: skip
    parameters = [p for path in last for p in block.get_submodule(path).parameters()]
    parameters += [block.gate.style_weight, block.gate.norm.bias] if name == "srm" else []
    assert parameters
    for parameter in parameters:
        assert parameter.grad.any()


@every_neutral
def test_neutral_blocks_have_the_parameters_of_the_paper(name: str) -> None:
    neutral, paper = (build_block(BLOCKS[name], 8, {}, "cpu", s) for s in ("neutral", "paper"))
    shapes = [{key: t.shape for key, t in b.state_dict().items()} for b in (neutral, paper)]
    assert shapes[0] == shapes[1]
    neutral.load_state_dict(paper.state_dict())


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(NEUTRAL)))
def test_other_blocks_say_why_they_have_no_neutral_start(name: str) -> None:
    assert BLOCKS[name].limits["neutral"]
    block = attnzoo.create_block(name, 8)
    with pytest.raises((OptionError, AttributeError)):
        block.start_neutral()


def test_a_variant_without_parameters_has_no_neutral_start() -> None:
    build = functools.partial(build_block, BLOCKS["ge"], 8, device="cpu", start="neutral")
    with pytest.raises(OptionError, match=r'no layer that could start at zero.*start="identity"'):
        build(options={"variant": "minus"})
    x = torch.randn(2, 8, 16, 16)
    for options in ({"variant": "theta"}, {"variant": "theta", "extent": 4}, {"extent": 4}):
        assert torch.equal(build(options=options)(x), x)


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_both_modes_of_polarized_start_neutral(mode: str) -> None:
    block = attnzoo.create_block("polarized", 8, mode=mode)
    block.start_neutral()
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(block(x), x)


def test_a_block_of_ones_own() -> None:
    class Mine(Gated):
        last_layers = ("conv",)

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, 1, 1)

        def gates(self, x: Tensor) -> list[Tensor]:
            return [torch.sigmoid(self.conv(x))]

    block, x = Mine(4), torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x * block.conv(x).sigmoid())
    torch.testing.assert_close(
        block(x, torch.full((4,), 0.5)), x * (1 + block.conv(x).sigmoid()) / 2
    )
    block.start_neutral()
    assert same_bits(block(x).detach(), x)
    assert not block.has_kernels()
    assert not isinstance(block, GatedByMap)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", ["NCHW", "NHWC", "NCDHW"])
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # some parts take no gradients
def test_hooks_may_stand_on_its_parts_and_the_result_be_changed_in_place(
    name: str, axes: str
) -> None:
    """As per-sample gradients need it, and as residual blocks add their shortcut."""
    shape = {"NCHW": (2, 64, 6, 5), "NHWC": (2, 6, 5, 64), "NCDHW": (2, 64, 3, 6, 5)}[axes]
    x = torch.randn(shape, requires_grad=True)
    for start in starts(name):
        module = attention(name, start, 64).eval()
        module.axes = axes
        expected = torch.autograd.grad((module(x) + x).square().sum(), x)
        y = module(x * 1)
        y += x
        found = torch.autograd.grad(y.square().sum(), x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # sums in another order
        for part in module.block.modules():
            part.register_full_backward_hook(lambda *_: None)
        module(x).square().sum().backward()
