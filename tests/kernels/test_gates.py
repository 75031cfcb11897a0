"""The kernels of `simam`, `cbam` and `spatial` against formulas in float64, and in their blocks.

Without a GPU they run in Triton's interpreter, on a machine with one natively.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    DEVICE,
    LAYOUTS,
    NATIVE,
    POOLS,
    TOLERANCE,
    check_gradients,
    dtypes,
    laid_out,
    noted_calls,
    poisoned,
    pooled,
    relative,
    shapes,
    softened,
    without_ties,
)
from torch import Tensor, nn

import attnzoo
from attnzoo.blocks import CBAM, SimAM, SpatialAttention
from attnzoo.hosts.attention import Attention
from attnzoo.kernels import dispatch, gates
from attnzoo.kernels.energy import energy, energy_backward
from attnzoo.kernels.gates import gate_maps, pixels, planes

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("kernels_run_here")
NAMES = ("cbam", "spatial", "simam")
every_name = pytest.mark.parametrize("name", NAMES)
#: Numpy's, in the interpreter.
quiet = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def cases(least: int = 2) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries(
        {
            "pool": st.sampled_from(list(POOLS)),
            "ceil": st.booleans(),
            "softened": st.booleans(),
            "gated": st.booleans(),
            "layout": st.sampled_from(LAYOUTS),
            "dtype": dtypes(),
            "shape": shapes(least),
            "images": st.integers(0, 3),
            "seed": st.integers(0, 1000),
        }
    )


# --- SimAM ---------------------------------------------------------------------------------------


def energy_formula(x: Tensor, gamma: Tensor | None, e_lambda: float) -> Tensor:
    """x times SimAM's gates, written out for float64."""
    pixels = x.shape[2] * x.shape[3]
    distance = (x - x.sum((2, 3), keepdim=True) / pixels) ** 2
    variance = distance.sum((2, 3), keepdim=True) / max(pixels - 1, 1)
    gate = 1 / (1 + torch.exp(-(distance / (4 * (variance + e_lambda)) + 0.5)))
    return softened(x, x * gate, gamma)


@pytest.mark.no_cover
@settings(max_examples=12)
@given(case=cases())
def test_energy_and_gradients_against_float64(case: dict) -> None:
    pool, ceil, dtype = case["pool"], case["ceil"], case["dtype"]
    torch.manual_seed(case["seed"])
    x = torch.randn(case["shape"], device=DEVICE)
    x = laid_out((without_ties(x) if pool == "max" else x).to(dtype), case["layout"])
    c = x.shape[1]
    tensors = [x, *([torch.rand(c, device=DEVICE).to(dtype)] if case["softened"] else [])]
    leaves = [t.detach().requires_grad_() for t in tensors]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    with poisoned():
        gamma = leaves[1] if case["softened"] else None
        y = energy(leaves[0], gamma, 1e-4, pool, ceil, case["images"], True)[0]
        g = torch.randn(y.shape, device=DEVICE).to(dtype)
        gradients = torch.autograd.grad(y, leaves, g)
    gamma = exact[1] if case["softened"] else None
    expected = pooled(energy_formula(exact[0], gamma, 1e-4), pool, ceil)
    assert y.dtype == dtype
    assert y.shape == expected.shape
    if case["layout"] == "channels_last" and c > 1 and min(y.shape[2:]) > 1:
        assert y.is_contiguous(memory_format=torch.channels_last)
    assert relative(y.detach(), expected.detach()) < TOLERANCE[dtype]
    check_gradients(gradients, torch.autograd.grad(expected, exact, g.double()), x)


def test_variance_of_values_far_from_zero_and_of_one_value() -> None:
    """A difference of sums of squares would keep no digit of it."""
    far = 1e4 + torch.randn(2, 3, 40, 30, device=DEVICE)
    y = energy(far, None, 1e-4, "", False, 0, False)[0]
    assert relative(y / far, energy_formula(far.double(), None, 1e-4) / far.double()) < 1e-4
    for one in (torch.randn(2, 3, 1, 1, device=DEVICE), torch.ones(2, 3, 4, 4, device=DEVICE)):
        leaf = one.clone().requires_grad_()
        y = energy(leaf, None, 1e-4, "", False, 0, False)[0]
        torch.testing.assert_close(y, one * torch.sigmoid(torch.tensor(0.5)))
        wanted = torch.full_like(one, torch.sigmoid(torch.tensor(0.5)).item())
        torch.testing.assert_close(torch.autograd.grad(y.sum(), leaf)[0], wanted)


@pytest.mark.no_cover
def test_cuts_and_runs_give_the_same_bits() -> None:
    x = torch.randn(3, 18, 5, 6, device=DEVICE, requires_grad=True)

    def run(images: int) -> list[Tensor]:
        y = energy(x, None, 1e-4, "mean", False, images, True)[0]
        return [y.detach(), torch.autograd.grad(y.square().sum(), x)[0]]

    first = run(0)
    for images in (0, 1, 2):
        assert all(torch.equal(a, b) for a, b in zip(run(images), first, strict=True))


# --- reductions and given gates ------------------------------------------------------------------


def powers(*shape: int) -> Tensor:
    """Gates by which nothing is rounded, so that what is equal stays equal in every dtype."""
    return 2.0 ** torch.randint(-1, 2, shape)


@pytest.mark.no_cover
@settings(max_examples=16)
@given(case=cases())
def test_reductions_and_gates_against_float64(case: dict) -> None:
    """All three operators one after the other, small whole numbers full of ties."""
    pool, ceil, dtype = case["pool"], case["ceil"], case["dtype"]
    n, c, h, w = case["shape"]
    torch.manual_seed(case["seed"])
    x = laid_out(torch.randint(-2, 3, (n, c, h, w), device=DEVICE).to(dtype), case["layout"])
    channel, spatial = powers(n, c, 1, 1), powers(n, 1, h, w)
    gamma = torch.randint(0, 3, (c,)) / 2
    tensors = [x, *(t.to(DEVICE, dtype) for t in (channel, spatial, gamma))]
    leaves = [t.detach().requires_grad_() for t in tensors]
    exact = [t.detach().double().requires_grad_() for t in tensors]

    def parts(x: Tensor, channel: Tensor, spatial: Tensor, gamma: Tensor) -> list[Tensor]:
        by = channel if case["gated"] else None
        gamma = gamma if case["softened"] else None
        if x.dtype == torch.float64 and x is exact[0]:
            z = x * channel if case["gated"] else x
            y = pooled(softened(x, z * spatial, gamma), pool, ceil)
            return [x.mean((2, 3)), x.amax((2, 3)), z.mean(1), z.amax(1), y]
        mean, maximum, _, later = planes(x, True)
        statistics, _, later = pixels(x.detach(), later, by, True)
        y = gate_maps(x.detach(), later, by, spatial, gamma, pool, ceil, True)[0]
        return [mean[:, :, 0, 0], maximum[:, :, 0, 0], *statistics.unbind(1), y]

    used = [0, *([1] if case["gated"] else []), 2, *([3] if case["softened"] else [])]
    expected = parts(*exact)
    seeds = [torch.randn(t.shape, device=DEVICE).to(dtype) for t in expected]
    with poisoned():
        found = parts(*leaves)
        gradients = torch.autograd.grad(found, [leaves[i] for i in used], seeds)
    for value, target in zip(found, expected, strict=True):
        assert value.dtype == dtype
        assert relative(value.detach(), target.detach()) < TOLERANCE[dtype]
    wanted = torch.autograd.grad(
        expected, [exact[i] for i in used], [seed.double() for seed in seeds]
    )
    check_gradients(gradients, wanted, x)


def test_what_rounding_makes_equal_shares_the_gradient() -> None:
    """As if the product were written: in half precision many are then the same."""
    x = 1 + torch.rand(1, 64, 9, 9, device=DEVICE).half() / 16
    channel = 1 + torch.rand(1, 64, 1, 1, device=DEVICE).half() / 64
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    statistics, often, _ = pixels(one, None, channel, True)
    product = other * channel
    maximum = product.amax(1, keepdim=True)
    assert often.max() > 1
    assert torch.equal(often, (product == maximum).sum(1).flatten(1).int())
    assert torch.equal(statistics[:, 1:], maximum)
    gradients = torch.autograd.grad(statistics[:, 1].sum(), one)
    wanted = torch.autograd.grad(maximum.sum(), other)
    torch.testing.assert_close(gradients, wanted)


@pytest.mark.no_cover
@quiet
@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_infinities_go_where_pytorch_has_them(special: float) -> None:
    x = torch.randint(2, (2, 70, 17, 19), device=DEVICE).float()
    x[0, 3, 2, 2] = x[1, 69, 16, 18] = special
    x[0, 5] = x[0, :, 9, 9] = special
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    mean, maximum, _, later = planes(one, True)
    statistics = pixels(one.detach(), later, None, True)[0]
    found = [mean, maximum, statistics[:, :1], statistics[:, 1:]]
    wanted = [f(d, keepdim=True) for d in ((2, 3), (1,)) for f in (other.mean, other.amax)]
    for value, target in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, target, equal_nan=True)
    gradients = [torch.autograd.grad([t.sum() for t in f], x)[0]
                 for f, x in ((found, one), (wanted, other))]  # fmt: skip
    torch.testing.assert_close(*gradients, equal_nan=True)


# --- as operators --------------------------------------------------------------------------------


def some() -> tuple[Tensor, ...]:
    """x, a channel gate, a spatial gate and γ."""
    sizes = (2, 6, 4, 5), (2, 6, 1, 1), (2, 1, 4, 5), (6,)
    return tuple(torch.randn(size, device=DEVICE, requires_grad=True) for size in sizes)


@pytest.mark.no_cover
def test_operators_keep_the_contract_of_pytorch() -> None:
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")

    def check(operator: Callable[..., object], *arguments: object) -> None:
        torch.library.opcheck(operator, arguments, test_utils=checks)

    x, channel, spatial, gamma = some()
    check(energy, x, gamma, 1e-4, "max", False, 1, True)
    check(planes, x, True)
    check(pixels, x, None, channel, True)
    check(gate_maps, x, None, channel, spatial, gamma, "max", True, True)
    with torch.no_grad():
        y, *kept = energy(x, gamma, 1e-4, "max", False, 0, True)
        check(energy_backward, torch.ones_like(y), x, gamma, *kept, "max", 0)
        mean, maximum, often, _ = planes(x, False)
        check(gates.planes_backward, x, mean, mean, x, maximum, often)
        statistics, often, _ = pixels(x, None, channel, False)
        check(gates.pixels_backward, None, statistics, x, channel, statistics, often)
        y, codes = gate_maps(x, None, None, spatial, gamma, "max", True, True)
        check(gates.gate_maps_backward, torch.ones_like(y), x, None, spatial, gamma, codes, "max")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fakes_have_the_strides_of_the_results(layout: torch.memory_format) -> None:
    x, channel, spatial, gamma = some()
    x = x.detach().contiguous(memory_format=layout)

    def run(x: Tensor, channel: Tensor, spatial: Tensor, gamma: Tensor) -> list[Tensor]:
        given = gate_maps(x, None, channel, spatial, gamma, "max", True, True)
        moments = energy(x, gamma, 1e-4, "mean", True, 0, True)
        return [*planes(x, True), *pixels(x, None, channel, True), *given, *moments]

    real = run(x, channel, spatial, gamma)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = run(*(mode.from_tensor(t) for t in (x, channel, spatial, gamma)))
    for one, other in zip(real, fake, strict=True):
        assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


# --- in the blocks -------------------------------------------------------------------------------


def block_of(name: str, channels: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    block = attnzoo.create_block(name, channels)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block.to(DEVICE, dtype)


@pytest.mark.no_cover
@pytest.mark.skipif(NATIVE, reason="the finite differences want float64")
@every_name
def test_first_and_second_derivatives_of_blocks(name: str, monkeypatch) -> None:
    """BatchNorm in training: the gradient goes through its statistics, too."""
    monkeypatch.setattr(dispatch, "DTYPES", {torch.float64})
    attention = Attention(block_of(name, 3, torch.float64), name, 3).double()
    nn.init.normal_(attention.gamma)
    attention.pool = nn.AvgPool2d(2, ceil_mode=True)
    asked = noted_calls(monkeypatch)
    x = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *_: Tensor) -> Tensor:
        return attention(x)

    leaves = (x, *attention.parameters())
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, attention.gamma), fast_mode=True)
    assert asked


@every_name
def test_training_leaves_what_the_formula_leaves(name: str, monkeypatch) -> None:
    asked = noted_calls(monkeypatch)
    one, other = block_of(name, 12), block_of(name, 12)
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 12, 5, 6, device=DEVICE)
    torch.testing.assert_close(one(x), other.formula(x), rtol=1e-5, atol=1e-5)
    for module in (one, other):
        module.eval()
    torch.testing.assert_close(one(x), other.formula(x), rtol=1e-5, atol=1e-5)
    assert len(asked) == 2
    for value, target in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(value, target)


@every_name
@quiet
def test_gamma_zero_gives_what_was_there_bit_for_bit(name: str) -> None:
    attention = Attention(block_of(name, 20), name, 20).to(DEVICE)
    x = torch.randn(2, 20, 7, 9, device=DEVICE)
    x.view(-1)[::7], x.view(-1)[::11], x[0, 3, 2, 2] = 0.0, -0.0, torch.inf
    for pool in (None, nn.MaxPool2d(2)):
        attention.pool = pool
        expected = x if pool is None else pool(x)
        assert torch.equal(attention(x).view(torch.int32), expected.view(torch.int32))


@every_name
@pytest.mark.parametrize("axes", ["NCHW", "NHWC"])
def test_attention_folds_gamma_and_pool_into_the_kernels(name: str, axes: str, monkeypatch) -> None:
    attention = Attention(block_of(name, 10), name, 10, axes=axes).to(DEVICE).eval()
    nn.init.normal_(attention.gamma)
    x = torch.randn(2, 10, 6, 4, device=DEVICE)
    x = x.permute(0, 2, 3, 1).contiguous() if axes == "NHWC" else x
    attention.pool = nn.MaxPool2d(2) if axes == "NCHW" else None
    expected = attention._attended(x, None)
    expected = expected if attention.pool is None else attention.pool(expected)
    asked = noted_calls(monkeypatch)
    torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)
    (args,) = asked
    assert any(t is attention.gamma for t in args)
    assert ("max" in args) == (axes == "NCHW")


@every_name
def test_wrapped_and_fused(name: str, monkeypatch) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3), nn.AvgPool2d(2)
    ).eval()
    model = attnzoo.wrap(network, "pre-pool", name, example=(3, 16, 16)).to(DEVICE)
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.gamma)
    x = torch.randn(2, 3, 16, 16, device=DEVICE)
    monkeypatch.setattr(dispatch, "ENABLED", False)
    expected = model(x)
    monkeypatch.setattr(dispatch, "ENABLED", True)
    monkeypatch.setattr("attnzoo.surgery.fusing._has_compiler", lambda: False)
    asked = noted_calls(monkeypatch)
    torch.testing.assert_close(attnzoo.fuse(model)(x), expected, rtol=1e-4, atol=1e-5)
    assert ["max" in args for args in asked] == [True, False]
    assert ["mean" in args for args in asked] == [False, True]


def _watched(block: nn.Module) -> None:
    next(block.children()).register_forward_hook(lambda *_: None)


def _replaced(block: nn.Module) -> None:
    for module in list(block.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.InstanceNorm2d(1))
    if isinstance(block, SimAM):
        block.gate = nn.Sigmoid().requires_grad_()
        block.gate.forward = torch.sigmoid


def _derived(block: nn.Module) -> None:
    # In the same file, where its gates' classes are known.
    block.__class__ = type("Mine", (type(block),), {"__module__": type(block).__module__})


@every_name
@pytest.mark.parametrize("change", [_watched, _replaced, _derived])
def test_a_changed_block_runs_as_it_says(name: str, change, monkeypatch) -> None:
    block = block_of(name, 8)
    change(block)
    asked = noted_calls(monkeypatch)
    x = torch.randn(2, 8, 4, 4, device=DEVICE)
    assert torch.equal(block(x), block.formula(x))
    assert not asked


@pytest.mark.parametrize("kind", [CBAM, SpatialAttention])
def test_batch_norm_over_processes_runs_between_the_kernels(kind, monkeypatch) -> None:
    block = nn.SyncBatchNorm.convert_sync_batchnorm(kind(8)).to(DEVICE).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in block.modules())
    asked = noted_calls(monkeypatch)
    x = torch.randn(2, 8, 4, 4, device=DEVICE)
    torch.testing.assert_close(block(x), block.formula(x))
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["cbam", "simam"])
def test_attention_maps_are_those_of_the_formula(name: str, monkeypatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model = attnzoo.wrap(network, "pre-pool", name, example=(3, 12, 12)).to(DEVICE).eval()
    asked = noted_calls(monkeypatch)
    with attnzoo.record_maps(model) as recorder:
        model(torch.randn(1, 3, 12, 12, device=DEVICE))
    assert recorder
    assert not asked
    model(torch.randn(1, 3, 12, 12, device=DEVICE))
    assert len(asked) == 1
