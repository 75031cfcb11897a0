"""The networks a sweep looks at: which are convolutional, and what each of them is fed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnzoo.backbones import create_backbone
from attnzoo.errors import AttnzooError
from attnzoo.tracing import Trace, default_input_size, probe

__all__ = ["Network", "NetworkKind", "Trial", "kind_of"]

NetworkKind = Literal["cnn", "hybrid", "other"]

#: Products of two tensors that both depend on the input: attention between positions.
_PRODUCTS = frozenset(("mm", "bmm", "addmm", "baddbmm"))

#: Networks with more parameters are looked at on meta tensors. Hybrids mostly take images of one
#: size only, a large one.
_REAL: dict[str, int] = {"cnn": 60_000_000, "hybrid": 10_000_000}

#: Sides of the square images that are tried, until one goes through.
_SIDES = (64, 96, 128, 224)


def kind_of(trace: Trace) -> NetworkKind:
    """Whether a network is convolutional.

    `cnn`: a spatial convolution (one whose windows overlap) and no product of two activations;
    `hybrid`: both; `other`: neither, such as vision transformers whose only convolution cuts
    the image into patches.
    """
    overlapping = product = False
    for op in trace.ops:
        if op.name == "convolution" and len(op.kernel) > 1:
            taken, made = trace.values[op.inputs[0]].shape, trace.values[op.outputs[0]].shape
            stride = round(taken[-1] / max(made[-1], 1))
            overlapping |= max(op.kernel) > max(stride, 1)
        elif len(set(op.inputs)) > 1:
            product |= op.name in _PRODUCTS or "scaled_dot_product" in op.name
    if not overlapping:
        return "other"
    return "hybrid" if product else "cnn"


@dataclass(frozen=True)
class Trial:
    """What a network is fed, and how its loss comes about.

    Attributes:
        network: the model.
        side: of the images, pixels.
        channels: of the images.
    """

    network: nn.Module
    side: int
    channels: int

    @property
    def task(self) -> str:
        """`detection`, `optical_flow`, `video`, or an empty text."""
        parts = type(self.network).__module__.split(".")
        tasks = ("detection", "optical_flow", "video")
        return next((t for t in tasks if t in parts and parts[0] == "torchvision"), "")

    def inputs(self, batch: int, device: str) -> tuple[Any, ...]:
        """The positional arguments of one forward pass."""

        def images(*shape: int) -> Tensor:
            if device == "meta":
                return torch.empty(shape, device=device)
            return torch.rand(shape, generator=torch.Generator().manual_seed(0))

        side = (self.side, self.side)
        if self.task == "detection":
            return ([images(self.channels, *side) for _ in range(batch)],)
        if self.task == "optical_flow":
            return images(batch, self.channels, *side), images(batch, self.channels, *side) / 2
        if self.task == "video":
            return (images(batch, self.channels, 16, *side),)
        return (images(batch, self.channels, *side),)

    def loss(self, device: str) -> Tensor:
        """A loss of a batch of two, in training mode."""
        args = self.inputs(2, device)
        if self.task == "detection":
            return _total(self.network(*args, [self._target(device) for _ in range(2)]))
        return _total(self.network(*args))

    def _target(self, device: str) -> dict[str, Tensor]:
        low, high = self.side / 4, self.side / 2
        points = [[low + i, low + i, 1.0] for i in range(17)]
        masks = torch.zeros(1, self.side, self.side, dtype=torch.uint8, device=device)
        masks[:, int(low) : int(high), int(low) : int(high)] = 1
        return {
            "boxes": torch.tensor([[low, low, high, high]], device=device),
            "labels": torch.ones(1, dtype=torch.long, device=device),
            "masks": masks,
            "keypoints": torch.tensor([points], device=device),
        }


def _total(outputs: Any) -> Tensor:
    """The sum of the means of all tensors of an output that a gradient flows through."""
    if isinstance(outputs, Tensor):
        return outputs.float().mean() if outputs.requires_grad else torch.zeros(())
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, list | tuple):
        parts = [_total(item) for item in outputs if item is not None]
        flowing = [part for part in parts if part.requires_grad]
        return torch.stack(flowing).sum() if flowing else torch.zeros(())
    return torch.zeros(())


@dataclass(frozen=True)
class Network:
    """A network that was built, and looked at once.

    Attributes:
        name: as `create_backbone` takes it.
        family: the file that defines it.
        kind: see `kind_of`.
        trial: how to run it; None for networks that are not swept.
        device: `cpu`, or `meta` for large ones.
        seconds: that building it with real weights took; 0 on meta.
    """

    name: str
    family: str
    kind: NetworkKind
    trial: Trial | None
    device: str
    seconds: float

    @classmethod
    def build(cls, name: str) -> Network:
        """Build a network, on meta tensors first to see what it is.

        Raises:
            AttnzooError: no forward pass can be followed.
        """
        model, on_meta = _build_on_meta(name)
        family = type(model).__module__.rpartition(".")[2]
        channels, height, _ = default_input_size(model)
        trial = Trial(model, height, channels)
        try:
            trace = probe(model, trial.inputs(1, "meta"))
        except AttnzooError:
            if trial.task:
                raise
            trace = probe(model)
            trial = Trial(model, height, trace.inputs[0].shape[1])
        kind = kind_of(trace)
        if kind == "other":
            return cls(name, family, kind, None, "meta", 0.0)
        if sum(p.numel() for p in model.parameters()) > _REAL[kind]:
            model = model if on_meta else model.to("meta")
            return cls(name, family, kind, Trial(model, height, trial.channels), "meta", 0.0)
        begin = time.perf_counter()
        model = create_backbone(name)
        seconds = time.perf_counter() - begin
        _make_small(model)
        side = _least_side(model, trial.channels, height)
        return cls(name, family, kind, Trial(model, side, trial.channels), "cpu", seconds)


def _build_on_meta(name: str) -> tuple[nn.Module, bool]:
    try:
        with torch.device("meta"):
            return create_backbone(name), True
    except (NotImplementedError, RuntimeError):  # some read a tensor's value while being built
        return create_backbone(name), False


def _make_small(model: nn.Module) -> None:
    """Let detectors take images as small as the others do, and look at few boxes."""
    transform = getattr(model, "transform", None)
    if transform is not None and getattr(transform, "fixed_size", None) is None:
        transform.min_size, transform.max_size = (128,), 128
    for module in model.modules():
        for name in ("_pre_nms_top_n", "_post_nms_top_n"):
            if isinstance(getattr(module, name, None), dict):
                setattr(module, name, {"training": 20, "testing": 20})
        for name in ("topk_candidates", "detections_per_img"):
            if isinstance(getattr(module, name, None), int):
                setattr(module, name, 20)


def _least_side(model: nn.Module, channels: int, default: int) -> int:
    """The first of the small sizes that the plain network takes, in eval and in training mode."""
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for side in _SIDES:
        if side >= default:
            break
        trial = Trial(model, side, channels)
        try:
            with torch.no_grad():
                model.eval()(*trial.inputs(1, "cpu"))
            model.train()
            trial.loss("cpu")
        except Exception:
            continue
        finally:
            model.eval()
            for name, buffer in model.named_buffers():
                buffer.copy_(state[name])
        return side
    return default
