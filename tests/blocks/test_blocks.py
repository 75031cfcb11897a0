"""The contract every block keeps, swept over the registry; then what is particular to each."""

from __future__ import annotations

import io
import itertools
import math
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import onnxruntime
import pytest
import torch
from patches import onnx_registry_kept
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import attnzoo
from attnzoo.errors import OptionError
from attnzoo.registry import BLOCKS

pytestmark = pytest.mark.no_cover
# The library's own: blocks of other installed packages keep this contract at home.
NAMES = [n for n in attnzoo.list_blocks() if BLOCKS[n].factory.__module__.startswith("attnzoo.")]
every_block = pytest.mark.parametrize("name", NAMES)
MAP_SHAPES = {
    "channel": lambda n, c, h, w: (n, c, 1, 1),
    "spatial": lambda n, c, h, w: (n, 1, h, w),
    "both": lambda n, c, h, w: (n, c, h, w),
}
# Channel counts that a block with a limit on shapes cannot take, and what its refusal says.
REFUSED: dict[str, tuple[Callable[[int], bool], str]] = {
    "shuffle": (lambda channels: channels % 2 == 1, "must be even"),
}
# In the formulas of docstrings: symbol → option, and functions.
SYMBOLS = {
    "r": "reduction",
    "k": "kernel_size",
    "G": "groups",
    "M": "heads",
    "R": "recurrence",
    "f": "floor",
    "S": "span",
    "s": "resolution",
    "like": "like",
}
FUNCTIONS = {
    "max": max,
    "min": min,
    "round": round,
    "parameters": lambda name, c: sum(
        p.numel() for p in attnzoo.create_block(name, c).parameters()
    ),
    "divisor": lambda n, limit: max(d for d in range(1, limit + 1) if n % d == 0),
}
BAD_VALUES = {
    "dilation": (0, -4, 2.0, True, None, "four"),
    "e_lambda": (0, -1e-4, True, None, "small", math.nan),
    "extent": (0, 1, -2, 3, 6, 2.0, True, None, "local"),
    "floor": (0, -8, 8.0, True, None, "eight"),
    "groups": (0, -8, 2.0, True, None, "many"),
    "heads": (0, -4, 2.0, True, None, "auto"),
    "kernel_size": (0, -3, 2, 3.0, True, None, "seven"),
    "like": (0, True, None, "conv", "lcoal"),
    "like_options": (0, True, "reduction", [("reduction", 4)]),
    "mode": (0, True, None, "Parallel", "both"),
    "recurrence": (0, -2, 2.0, True, None, "two"),
    "reduction": (0, -1, 1.5, True, None, "automatic"),
    "resolution": (0, -7, 7.0, True, None, "auto"),
    "span": (0, -1, 7.0, True, None, "all"),
    "variant": (0, True, None, "θ+", "Plus"),
}
# Operations that torch.use_deterministic_algorithms refuses, or documents as random, on CUDA.
RANDOM_BACKWARD = {
    "_adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "grid_sampler_2d",
    "median",
    "reflection_pad2d",
    "replication_pad2d",
    "upsample_bicubic2d",
    "upsample_bilinear2d",
}
DYNAMIC = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)


def takes(name: str, channels: int) -> bool:
    return name not in REFUSED or not REFUSED[name][0](channels)


def fit(name: str, channels: int) -> int:
    """The first channel count from `channels` on that the block takes."""
    return next(c for c in range(channels, 2 * channels + 64) if takes(name, c))


def randomised(name: str, channels: int, **options: object) -> nn.Module:
    """The block with random parameters, so that no zero start hides a gradient."""
    block = attnzoo.create_block(name, channels, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0, 0.5)
    return block


@contextmanager
def tiny_numbers_are_zero() -> Iterator[None]:
    """Softmaxes over large maps are full of denormal numbers, with which a CPU is slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def test_the_sweep_covers_the_blocks_of_the_package() -> None:
    expected = (
        "a2 affine axial bam cbam conv coord crisscross danet eca ela ema ese gam gc gct ge grn "
        "lct lka local local-dynamic local-self lsk mhsa nam none nonlocal polarized scse se sge "
        "shuffle simam spatial srm strip triplet"
    )
    assert " ".join(sorted(NAMES)) == expected
    assert not [name for name in attnzoo.list_blocks() if name.startswith("timm:")]


@every_block
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [1, 3, 8, 17, 64, 96])
@torch.no_grad()
@tiny_numbers_are_zero()
def test_any_shape_in_is_the_shape_out(name: str, channels: int, training: bool) -> None:
    if not takes(name, channels):
        with pytest.raises(OptionError, match=rf"channels={channels} {REFUSED[name][1]}"):
            attnzoo.create_block(name, channels)
        return
    block = randomised(name, channels).train(training)
    sizes = ((1, 1), (1, 7), (7, 5), (14, 14), (56, 56))
    for batch, size in itertools.product((1, 2), sizes):
        x = torch.randn(batch, channels, *size)
        before = x.clone()
        y = block(x)
        assert y.shape == x.shape
        assert y.isfinite().all()
        assert torch.equal(x, before), "the block wrote into its input"


@every_block
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_and_memory_format_are_kept(name: str, dtype: torch.dtype) -> None:
    block = randomised(name, 8).to(dtype)
    x = torch.randn(2, 8, 5, 7, dtype=dtype)
    assert block(x).dtype == dtype
    assert block(x).is_contiguous()
    last = block(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    # the formats round at different places, by parts of the largest value
    y = block(x)
    torch.testing.assert_close(last, y, rtol=0.05, atol=0.05 * max(1, y.abs().max().item()))


@every_block
def test_every_parameter_gets_a_gradient(name: str) -> None:
    block = randomised(name, 64)
    x = torch.randn(4, 64, 6, 6, requires_grad=True)
    (block(x) * torch.randn(4, 64, 6, 6)).sum().backward()
    for path, tensor in [("x", x), *block.named_parameters()]:
        assert tensor.grad is not None, path
        assert tensor.grad.isfinite().all(), path
        assert tensor.grad.abs().max() > 0, path


@every_block
@pytest.mark.parametrize("training", [True, False])
def test_gradcheck(name: str, training: bool) -> None:
    channels = fit(name, 3)
    block = randomised(name, channels).double().train(training)
    parameters = dict(block.named_parameters())

    def forward(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(block, named, (x,))

    x = torch.randn(2, channels, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(forward, (x, *parameters.values()), fast_mode=True)


@every_block
def test_uses_nothing_whose_backward_pass_is_random_on_cuda(name: str) -> None:
    class Recorder(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.called: set[str] = set()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.called.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    block = randomised(name, 8)
    with Recorder() as recorder:
        block(torch.randn(2, 8, 6, 6, requires_grad=True))
    assert not recorder.called & RANDOM_BACKWARD


@every_block
def test_two_runs_give_identical_gradients(name: str) -> None:
    channels = fit(name, 17)
    block = randomised(name, channels)
    x = torch.randn(2, channels, 9, 9)

    def run() -> list[Tensor]:
        inputs = [x.clone().requires_grad_(), *block.parameters()]
        y = block(inputs[0])
        return [y.detach(), *torch.autograd.grad(y.square().sum(), inputs)]

    with deterministic():
        first, second = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_block
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("after", ["a float32 layer", "an autocast layer"])
def test_large_inputs_stay_finite_under_autocast(
    name: str, autocast: torch.dtype, after: str
) -> None:
    dtype = torch.float32 if after == "a float32 layer" else autocast
    block = randomised(name, 64)
    # 12×12 values of 1e3: their sum is past the range of float16, their mean is not
    noise, constant = 1e3 * torch.randn(2, 64, 12, 12), torch.full((2, 64, 12, 12), 1e3)
    for x, training in ((noise, True), (noise, False), (constant, True)):
        x = x.to(dtype, memory_format=torch.channels_last).requires_grad_()
        with torch.autocast("cpu", dtype=autocast):
            y = block.train(training)(x)
        assert y.dtype == dtype
        assert y.isfinite().all()
        y.float().mean().backward()
        assert x.grad.isfinite().all()


@every_block
def test_compiles_without_a_graph_break(name: str) -> None:
    block = randomised(name, 8)
    torch.compiler.reset()
    compiled = torch.compile(block, fullgraph=True, backend="eager", dynamic=True)
    for training in (True, False):
        block.train(training)
        for size in ((5, 7), (6, 4)):
            x = torch.randn(2, 8, *size, requires_grad=True)
            torch.testing.assert_close(compiled(x), block(x))
    compiled(x).sum().backward()
    assert x.grad.isfinite().all()


@cache
def exported(name: str) -> tuple[nn.Module, torch.export.ExportedProgram]:
    """A block and its program, which two tests look at."""
    block = randomised(name, 8).eval()
    x = torch.randn(2, 8, 6, 4)
    return block, torch.export.export(block, (x,), dynamic_shapes=(DYNAMIC,))


@every_block
def test_exports_with_dynamic_batch_height_and_width(name: str) -> None:
    block, program = exported(name)
    for shape in ((3, 8, 9, 5), (1, 8, 1, 7), (1, 8, 1, 1)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), block(x))


@every_block
@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
def test_onnx_gives_the_same_numbers(name: str) -> None:
    block, program = exported(name)
    with onnx_registry_kept():
        model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for shape in ((3, 8, 5, 9), (1, 8, 1, 1)):
        x = torch.randn(shape)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), block(x), rtol=1e-5, atol=1e-5)


@every_block
def test_declared_maps_are_what_those_submodules_return(name: str) -> None:
    spec = BLOCKS[name]
    block = randomised(name, 8).eval()
    emitted: dict[str, list[Tensor]] = {path: [] for path in spec.maps}
    for path, outputs in emitted.items():
        block.get_submodule(path).register_forward_hook(
            lambda module, args, output, outputs=outputs: outputs.append(output)
        )
    shape = (2, 8, 5, 7)
    block(torch.randn(shape))
    for path, kind in spec.maps.items():
        assert len(emitted[path]) == 1, f"{path} ran {len(emitted[path])} times"
        if kind in MAP_SHAPES:
            assert emitted[path][0].shape == MAP_SHAPES[kind](*shape)
        else:  # pairwise: each row or column of the last two axes shares out a weight of 1
            attention = emitted[path][0]
            assert attention.ndim >= 3
            assert attention.min() >= 0
            assert any(
                torch.allclose(sums, torch.ones_like(sums))
                for sums in (attention.sum(-1), attention.sum(-2))
            )
    expected = spec.kind != "control" and "maps" not in spec.limits
    assert bool(spec.maps) == expected, "attention without a map, or the reverse"


def odd_channels_are_refused() -> None:
    for channels in (1, 17):
        with pytest.raises(OptionError, match="must be even"):
            attnzoo.create_block("shuffle", channels)


def no_submodule_returns_the_attention() -> None:
    block, returned = randomised("mhsa", 8), []
    for module in block.modules():
        module.register_forward_hook(lambda module, args, output: returned.append(output))
    block(torch.randn(2, 8, 5, 7))
    assert not [y for y in returned if y.shape[-2:] == (35, 35)]


def a_program_of_several_windows_refuses_one_window() -> None:
    block = randomised("ge", 8, extent=4).eval()
    example = torch.randn(2, 8, 12, 10)
    module = torch.export.export(block, (example,), dynamic_shapes=(DYNAMIC,)).module()
    larger = torch.randn(1, 8, 5, 9)
    torch.testing.assert_close(module(larger), block(larger))
    for size in ((4, 9), (1, 1)):
        assert block(torch.randn(1, 8, *size)).isfinite().all()
        with pytest.raises((AssertionError, RuntimeError)):
            module(torch.randn(1, 8, *size))


# Each limit, shown: one that no longer holds is noticed.
LIMITS: dict[tuple[str, str], Callable[[], None]] = {
    ("ge", "export"): a_program_of_several_windows_refuses_one_window,
    ("mhsa", "maps"): no_submodule_returns_the_attention,
    ("shuffle", "shapes"): odd_channels_are_refused,
}


def test_every_limit_is_shown_here() -> None:
    assert {(name, what) for name in NAMES for what in BLOCKS[name].limits} == set(LIMITS)
    assert {name for name, what in LIMITS if what == "shapes"} == set(REFUSED)


@pytest.mark.parametrize(("name", "what"), LIMITS)
def test_a_limit_is_as_the_spec_says(name: str, what: str) -> None:
    assert re.fullmatch(r"[^.].+\.", BLOCKS[name].limits[what], re.DOTALL)
    LIMITS[name, what]()


@every_block
@pytest.mark.parametrize("training", [True, False])
def test_identity_at_init_is_declared_exactly_where_it_holds(name: str, training: bool) -> None:
    block = attnzoo.create_block(name, 8).train(training)
    x = torch.randn(2, 8, 5, 7)
    x[0], x[1, 0] = -0.0, 0.0
    same_bits = torch.equal(block(x).view(torch.int32), x.view(torch.int32))
    assert same_bits == BLOCKS[name].identity_at_init


@every_block
def test_pickle_keeps_the_block(name: str) -> None:
    block = randomised(name, 8).eval()
    copy = pickle.load(io.BytesIO(pickle.dumps(block)))
    x = torch.randn(1, 8, 3, 3)
    assert torch.equal(copy(x), block(x))


@every_block
@pytest.mark.parametrize("channels", [1, 64, 96])
def test_parameters_and_macs_follow_the_docstring(name: str, channels: int) -> None:
    chosen = {o: 5 if d == "auto" else d for o, d in BLOCKS[name].options.items()}
    channels = fit(name, channels)
    with torch.device("meta"):
        block = attnzoo.create_block(name, channels, **chosen).eval()
        with FlopCounterMode(display=False) as counter:
            block(torch.empty(1, channels, 14, 10))
    doc = type(block).__doc__ or ""
    scope = {"C": channels, "H": 14, "W": 10, **FUNCTIONS}
    scope |= {s: chosen[option] for s, option in SYMBOLS.items() if option in chosen}

    def evaluate(formula: str) -> int:
        expression = formula.replace("·", "*").replace("²", "**2")
        return eval(expression, {"__builtins__": {}}, scope)

    # as in "Parameters: 10·w² + 4·w, with g = divisor(C, G) and w = C // g."
    parameters = re.search(r"Parameters: ([^,\n]+)(?:,\s+with (.+))?\.\n", doc)
    macs = re.search(r"MACs: (.+)\.\n", doc)
    assert parameters, f"the docstring of {type(block).__name__} lacks a line Parameters: …"
    assert macs, f"the docstring of {type(block).__name__} lacks a line MACs: …"
    for definition in parameters[2].split(" and ") if parameters[2] else ():
        symbol, _, meaning = definition.partition(" = ")
        scope[symbol] = evaluate(meaning)
    assert sum(p.numel() for p in block.parameters()) == evaluate(parameters[1])
    assert counter.get_total_flops() // 2 == evaluate(macs[1])


@every_block
def test_unknown_options_and_values_are_refused(name: str) -> None:
    with pytest.raises(OptionError, match=rf"'{name}'.*'reducton'.*Its options"):
        attnzoo.create_block(name, 8, reducton=4)
    for channels in (0, -1, 8.0, True, "8"):
        with pytest.raises(OptionError, match=rf"channels={channels!r} must be an integer"):
            attnzoo.create_block(name, channels)
        with pytest.raises(OptionError, match=rf"channels={channels!r} must be an integer"):
            BLOCKS[name].factory(channels)
    for option in BLOCKS[name].options:
        assert option in BAD_VALUES, f"say in BAD_VALUES what {option} must refuse"
        for value in BAD_VALUES[option]:
            given = re.escape(f"{option}={value!r}")
            with pytest.raises(OptionError, match=rf"{given} (must be|is not one of) "):
                attnzoo.create_block(name, 8, **{option: value})
