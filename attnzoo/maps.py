"""What attention looks at: the maps that the blocks of a model return inside, for given images."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnzoo.errors import NoMapsError, NotWrappedError, OptionError
from attnzoo.hosts import Attention, check_module, modules_by_path
from attnzoo.registry import BLOCKS, MapKind

__all__ = ["AttentionMap", "attention_maps", "record_maps"]


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One map of one block at one site, for every image of a batch.

    N counts images; of videos, every frame of the first, then of the second, and so on.

    Attributes:
        path: of the attention in the model.
        block: name of the block.
        emitter: the submodule of the block that returned the map.
        kind: what the map is over, which decides its shape: `"channel"` `(N, C, 1, 1)`,
            `"spatial"` `(N, 1, H, W)`, `"both"` `(N, C, H, W)`, or `"pairwise"`, as the block has
            it: the last two axes hold weights that sum to 1 along one of them.
        tensor: the map, as it was computed, cut off from the graph.
        channels, height, width: of the feature map that the block saw.
        gamma: `(C,)`, how far attention has been let in at this site: `y = x + γ·(block(x) − x)`,
            so at 0 the map changes nothing. None without γ: the block counts in full.
    """

    path: str
    block: str
    emitter: str
    kind: MapKind
    tensor: Tensor
    channels: int
    height: int
    width: int
    gamma: Tensor | None

    @property
    def openness(self) -> float:
        """Mean |γ|; 1 where there is no γ."""
        return 1.0 if self.gamma is None else float(self.gamma.abs().mean())

    @property
    def heat(self) -> Tensor | None:
        """What can be laid over the images, `(N, H, W)` in float32; None where nothing can.

        A spatial map is taken as it is, one over both as its mean over the channels, and one
        between positions as the attention that each position is given, on average over those
        that give it.
        """
        if self.kind == "channel":
            return None
        values = self.tensor.float()
        if self.kind == "pairwise":
            if not self._is_over_positions(values):
                return None
            values = values.flatten(1, -2).mean(1).unflatten(-1, (self.height, self.width))
            return values
        return values.mean(1)

    def _is_over_positions(self, values: Tensor) -> bool:
        positions = self.height * self.width
        # With as many channels as positions, a map between channels would look the same.
        if values.shape[-1] != positions or positions == self.channels:
            return False
        sums = values.sum(-1)
        return torch.allclose(sums, torch.ones_like(sums), atol=1e-2)


def attention_maps(model: nn.Module, *args: Any, **kwargs: Any) -> list[AttentionMap]:
    """The attention maps of one forward pass, in the order in which they are computed.

    The model runs in eval mode and without gradients, and is left as it was. Afterwards no hook
    is left on it.

    Args:
        model: wrapped by attnzoo, or one of whose modules is.
        *args: what to call the model with, on its device: images `(N, C, H, W)`.
        **kwargs: likewise.

    Raises:
        NotWrappedError: the model holds no attention.
        NoMapsError: none of its blocks returns a map; the message says why.
        OptionError: a block's spec names a submodule that the block does not have.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> model = attnzoo.wrap(torchvision.models.resnet18(), "stage-end", "cbam")
        >>> maps = attnzoo.attention_maps(model, torch.randn(1, 3, 64, 64))
        >>> [(m.emitter, tuple(m.tensor.shape)) for m in maps[:2]]
        [('channel_gate', (1, 64, 1, 1)), ('spatial_gate', (1, 1, 32, 32))]
        >>> maps[1].heat.shape, maps[1].openness
        (torch.Size([1, 32, 32]), 0.0)
    """
    check_module(model)
    modes = [(module, module.training) for module in modules_by_path(model).values()]
    with record_maps(model) as maps:
        try:
            for module, _ in modes:
                module.training = False
            with torch.no_grad():
                model(*args, **kwargs)
        finally:
            for module, training in modes:
                module.training = training
    return maps


@contextmanager
def record_maps(model: nn.Module) -> Generator[list[AttentionMap]]:
    """Collect the attention maps of whatever runs through a model meanwhile.

    For models that are not called directly, such as a part of a larger one, and for maps in
    training mode. Code compiled by torch.compile runs uncompiled in the meantime: it would pass
    the hooks by.

    Raises:
        NotWrappedError: the model holds no attention.
        NoMapsError: none of its blocks returns a map; the message says why.
        OptionError: a block's spec names a submodule that the block does not have.

    Example:
        >>> import attnzoo, torch, torchvision
        >>> model = attnzoo.wrap(torchvision.models.vgg11(), "pre-pool", "spatial").features
        >>> with attnzoo.record_maps(model) as maps:
        ...     features = model(torch.randn(2, 3, 32, 32))
        >>> [m.height for m in maps]
        [32, 16, 8, 4, 2]
    """
    sites = _sites(model)
    maps: list[AttentionMap] = []
    with ExitStack() as stack:
        stack.enter_context(_uncompiled())
        for path, attention in sites:
            _watch(stack, path, attention, maps)
        yield maps


def _sites(model: nn.Module) -> list[tuple[str, Attention]]:
    """The attention whose blocks declare maps."""
    check_module(model)
    found = [(path, m) for path, m in modules_by_path(model).items() if isinstance(m, Attention)]
    if not found:
        raise NotWrappedError(
            f"{type(model).__name__} holds no attention that attnzoo put in, so it has no maps. "
            f"Put some in with attnzoo.wrap."
        )
    names = dict.fromkeys(attention.name for _, attention in found)
    with_maps = [(path, attention) for path, attention in found if BLOCKS[attention.name].maps]
    if not with_maps:
        raise NoMapsError(
            "none of the model's blocks returns an attention map.\n"
            + "\n".join(f"- {name}: {_why_none(name)}" for name in names)
            + "\n`attnzoo blocks NAME` shows which maps a block has."
        )
    return with_maps


def _why_none(name: str) -> str:
    spec = BLOCKS[name]
    if spec.kind == "control":
        return "it is a control and attends to nothing."
    return spec.limits.get("maps", "its spec declares none (`maps=` of register_block).")


def _watch(stack: ExitStack, path: str, attention: Attention, maps: list[AttentionMap]) -> None:
    """Hooks that last as long as the stack: on the block, for its shapes, and on its emitters."""
    seen: list[tuple[int, int, int]] = []

    def note_shape(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen[:] = [tuple(args[0].shape[1:])]

    def note(emitter: str, kind: MapKind) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            channels, height, width = seen[0]
            gamma = attention.gamma
            maps.append(
                AttentionMap(
                    path=path,
                    block=attention.name,
                    emitter=emitter,
                    kind=kind,
                    tensor=output.detach(),
                    channels=channels,
                    height=height,
                    width=width,
                    gamma=None if gamma is None else gamma.detach(),
                )
            )

        return hook

    handles = [attention.block.register_forward_pre_hook(note_shape)]
    stack.callback(lambda: [handle.remove() for handle in handles])
    for emitter, kind in BLOCKS[attention.name].maps.items():
        try:
            module = attention.block.get_submodule(emitter)
        except AttributeError:
            there = ", ".join(name for name, _ in attention.block.named_modules() if name)
            raise OptionError(
                f"block {attention.name!r} is registered with a map at {emitter!r}, and the block "
                f"at {path!r} has no such submodule. It has: {there or 'none'}."
            ) from None
        handles.append(module.register_forward_hook(note(emitter, kind)))


def _uncompiled() -> AbstractContextManager[Any]:
    # Dynamo takes seconds to import, and where it has not been, nothing is compiled.
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
