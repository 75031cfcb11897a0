from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attnzoo.kernels import into_one_map, through_pixels


def _conv(kernel: int = 7, channels: int = 2) -> nn.Conv2d:
    return nn.Conv2d(channels, 1, kernel, padding=kernel // 2, bias=False)


def _convolutions(conv: nn.Conv2d, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Output channels of each convolution that is run."""
    seen: list[int] = []
    plain = F.conv2d

    def record(x: torch.Tensor, weight: torch.Tensor, *args: object, **given: object) -> object:
        seen.append(len(weight))
        return plain(x, weight, *args, **given)

    monkeypatch.setattr(F, "conv2d", record)
    into_one_map(conv, x)
    monkeypatch.undo()
    return seen


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kernel", "channels"), [(3, 2), (7, 2), (7, 1), (5, 4)])
@pytest.mark.parametrize("size", [(24, 31), (1, 400), (200, 2)])
@torch.no_grad()
def test_is_the_convolution(
    layout: torch.memory_format,
    kernel: int,
    channels: int,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conv = _conv(kernel, channels)
    x = torch.randn(3, channels, *size).contiguous(memory_format=layout)
    torch.testing.assert_close(into_one_map(conv, x), conv(x))
    assert _convolutions(conv, x, monkeypatch) == [kernel]


def _watched(conv: nn.Conv2d) -> nn.Module:
    conv.register_forward_hook(lambda *_: None)
    return conv


@pytest.mark.parametrize(
    "change",
    [
        _watched,
        lambda conv: nn.utils.parametrizations.weight_norm(conv),
        lambda _: nn.Conv2d(2, 1, 7, padding=3),
        lambda _: nn.Conv2d(2, 1, 7, padding=6, dilation=2, bias=False),
        lambda _: nn.Conv2d(2, 1, 7, padding=3, bias=False, padding_mode="reflect"),
        lambda _: nn.Conv2d(2, 1, (7, 1), padding=(3, 0), bias=False),
        lambda conv: conv.requires_grad_(),
    ],
)
def test_what_is_not_as_it_was_built_runs_itself(
    change: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = change(_conv().requires_grad_(False))  # ty: ignore[call-non-callable]
    x = torch.randn(2, 2, 24, 24)
    with torch.set_grad_enabled(any(p.requires_grad for p in conv.parameters())):
        torch.testing.assert_close(into_one_map(conv, x), conv(x))
        assert _convolutions(conv, x, monkeypatch) in ([1], [])


def test_recorders_and_counters_see_the_layer() -> None:
    conv, x = _conv().eval(), torch.randn(2, 2, 24, 24)

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return into_one_map(self.conv, x)

    with torch.no_grad():
        program = torch.export.export(Gate(), (x,))
        assert not any("stride" in str(node.target) for node in program.graph.nodes)
        with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
            into_one_map(conv, x)
    assert counter.get_total_flops() == 2 * x.numel() * 49
    torch.testing.assert_close(torch.func.vmap(Gate())(x[None])[0], conv(x))


def _perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(6, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 6, 1))


def test_several_vectors_go_through_layers_at_once() -> None:
    layers, calls = _perceptron(), []
    one, other = torch.randn(2, 4, 6, 1, 1).requires_grad_().unbind()
    expected = [layers(one), layers(other)]
    plain = layers.forward
    layers.forward = lambda x: calls.append(x.shape) or plain(x)
    found = through_pixels(layers, [one, other])
    assert calls == [(1, 6, 8, 1)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
        weights = list(layers.parameters())
        for a, b in zip(
            torch.autograd.grad(ours.square().sum(), weights, retain_graph=True),
            torch.autograd.grad(theirs.square().sum(), weights, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_watched_and_changed_layers_see_the_vectors_themselves() -> None:
    watched, normalised = _perceptron(), _perceptron().append(nn.BatchNorm2d(6))
    seen: list[torch.Size] = []
    watched[2].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    vectors = torch.randn(2, 4, 6, 1, 1).unbind()
    through_pixels(watched, vectors)
    assert seen == [(4, 3, 1, 1)] * 2
    through_pixels(normalised, vectors)
    assert normalised[3].num_batches_tracked == 2
