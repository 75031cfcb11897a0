"""Where a network's attention looks, in numbers: on objects whose boxes are known, and for what."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnzoo.checks import check_number
from attnzoo.errors import OptionError
from attnzoo.maps import attention_maps
from attnzoo.surgery import attention_modules

__all__ = ["Change", "Look", "changes", "deletion", "looks", "saliency"]


@dataclass(frozen=True)
class Look:
    """How one map lies on the objects of some images.

    Attributes:
        path, emitter: as in `attnzoo.AttentionMap`.
        height, width: of the map.
        inside: mean share of its sum that lies inside the object's box.
        area: mean share of the image that the box covers: `inside` of a map that is the same
            everywhere.
        pointing: share of the images whose largest value lies inside the box (the pointing game;
            Zhang, Lin, Brandt, Shen, Sclaroff, 2016, arXiv:1608.00507); a map without a largest
            value, since it is the same everywhere, counts as the box's share of the area.
    """

    path: str
    emitter: str
    height: int
    width: int
    inside: float
    area: float
    pointing: float

    @property
    def ratio(self) -> float:
        """`inside` over `area`: above 1, attention lies on the object more than by chance."""
        return self.inside / self.area


@dataclass(frozen=True)
class Change:
    """How far one attention changes what passes through it.

    Attributes:
        path: of the attention in the model.
        relative: mean |y − x| over mean |x| of its input x and its output y: 0 is the identity,
            0.5 are gates that halve everything.
        deviation: likewise with the mean gain taken out, |y − a·x| with the a that makes it least:
            what a constant factor, which the next layer undoes, does not explain.
    """

    path: str
    relative: float
    deviation: float


def looks(model: nn.Module, images: Tensor, boxes: Tensor) -> list[Look]:
    """How each map of a model's attention lies on the objects of some images.

    Only maps that are over positions count. Negative values count as none.

    Args:
        model: wrapped by attnzoo.
        images: `(N, C, H, W)`, on the model's device.
        boxes: `(N, 4)`: left, top, right, bottom in pixels, half open.

    Raises:
        NotWrappedError, NoMapsError: as `attention_maps`.
        OptionError: boxes do not fit the images.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> from attnzoo.trained import looks
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "stage-end", "spatial")
        >>> found = looks(model, torch.randn(1, 3, 64, 64), torch.tensor([[16, 16, 48, 48]]))
        >>> found[0].path, round(found[0].area, 3)
        ('relu.attention', 0.25)
    """
    mask = _masks(images, boxes)
    found = []
    for one in attention_maps(model, images):
        heat = one.heat
        if heat is None:
            continue
        weights = _shrunk(mask, heat)
        mass = heat.clamp_min(0).flatten(1)
        inside = (mass * weights.flatten(1)).sum(1) / mass.sum(1).clamp_min(1e-12)
        area = mask.flatten(1).mean(1).to(heat)
        flat = heat.flatten(1)
        top = weights.flatten(1).gather(1, flat.argmax(1, keepdim=True))[:, 0]
        even = flat.amax(1) - flat.amin(1) <= 1e-6 * flat.abs().amax(1)
        pointing = torch.where(even, area, (top >= 0.5).to(area))
        inside = torch.where(mass.sum(1) > 0, inside, area)
        found.append(
            Look(
                path=one.path,
                emitter=one.emitter,
                height=heat.shape[1],
                width=heat.shape[2],
                inside=float(inside.mean()),
                area=float(area.mean()),
                pointing=float(pointing.mean()),
            )
        )
    return found


def changes(model: nn.Module, images: Tensor) -> list[Change]:
    """How far each attention of a model changes what passes through it, whatever its start.

    γ and the gates both count, so networks with different starts can be compared.

    Args:
        model: wrapped by attnzoo; it is left as it was.
        images: `(N, C, H, W)`, on the model's device.

    Raises:
        TypeError: `model` is no module.
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    training = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack, torch.no_grad():
        for path, attention in attention_modules(model).items():
            stack.enter_context(attention.register_forward_hook(_noting(seen, path)))
        for module, mode in training:
            stack.callback(setattr, module, "training", mode)
            module.training = False
        model(images)
    return [_change(path, pairs) for path, pairs in seen.items()]


def saliency(model: nn.Module, images: Tensor) -> Tensor:
    """One map of all that a model's attention looks at, `(N, H, W)` at the images' size.

    Every map over positions is scaled to go from 0 to 1, enlarged bilinearly, and they are
    averaged.

    Raises:
        NotWrappedError, NoMapsError: as `attention_maps`.
        OptionError: none of its maps is over positions.
    """
    size = images.shape[-2:]
    scaled = []
    for one in attention_maps(model, images):
        if one.heat is None:
            continue
        low, high = one.heat.amin((1, 2), keepdim=True), one.heat.amax((1, 2), keepdim=True)
        unit = (one.heat - low) / (high - low).clamp_min(1e-12)
        scaled.append(F.interpolate(unit[:, None], size, mode="bilinear", align_corners=False))
    if not scaled:
        raise OptionError("none of the model's attention maps is over positions.")
    return torch.cat(scaled, 1).mean(1)


def deletion(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    shares: Sequence[float],
    *,
    empty: float = 0.0,
    insert: bool = False,
) -> list[float]:
    """Accuracy with ever more of the images taken away: the deletion curve, or insertion.

    From Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box
    Models", BMVC 2018, arXiv:1806.07421.

    Args:
        model: gives `(N, classes)`.
        images: `(N, C, H, W)`, on the model's device.
        labels: `(N,)`.
        order: `(N, H, W)`: pixels with the largest values go first.
        shares: of the pixels, from 0 to 1.
        empty: what stands where a pixel was taken away.
        insert: begin with nothing and put the first pixels in.

    Returns:
        Top-1 at each of `shares`.

    Raises:
        OptionError: a share is out of range, or shapes do not fit.
    """
    if order.shape != (len(images), *images.shape[-2:]):
        raise OptionError(
            f"order has the shape {tuple(order.shape)}; images {tuple(images.shape)} want "
            f"{(len(images), *images.shape[-2:])}."
        )
    rank = order.flatten(1).argsort(1, descending=True).argsort(1).view_as(order)
    pixels = order[0].numel()
    found = []
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            for share in shares:
                check_number("deletion", "shares", share, minimum=0, maximum=1)
                first = (rank < round(share * pixels))[:, None]
                kept = first if insert else ~first
                shown = torch.where(kept, images, torch.full_like(images, empty))
                found.append(float((model(shown).argmax(1) == labels).float().mean()))
    finally:
        model.train(was)
    return found


def _noting(seen: dict[str, list[tuple[Tensor, Tensor]]], path: str) -> Any:
    def note(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen.setdefault(path, []).append((args[0].detach(), output.detach()))

    return note


def _change(path: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> Change:
    x = torch.cat([a.float().flatten() for a, _ in pairs])
    y = torch.cat([b.float().flatten() for _, b in pairs])
    size = x.abs().mean().clamp_min(1e-12)
    gain = (x * y).sum() / (x * x).sum().clamp_min(1e-12)
    return Change(
        path, float((y - x).abs().mean() / size), float((y - gain * x).abs().mean() / size)
    )


def _shrunk(mask: Tensor, heat: Tensor) -> Tensor:
    """`(N, h, w)`: how much of each of the map's cells lies inside the box."""
    height, width = heat.shape[1:]
    return F.adaptive_avg_pool2d(mask[:, None], (height, width))[:, 0].to(heat)


def _masks(images: Tensor, boxes: Tensor) -> Tensor:
    """`(N, H, W)`: 1 inside the boxes."""
    if boxes.shape != (len(images), 4):
        raise OptionError(
            f"boxes have the shape {tuple(boxes.shape)}; {len(images)} images want "
            f"({len(images)}, 4): left, top, right, bottom."
        )
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[None, :, None]
    columns = torch.arange(width, device=images.device)[None, None, :]
    left, top, right, bottom = (boxes.to(images.device)[:, i, None, None] for i in range(4))
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return inside.float()
