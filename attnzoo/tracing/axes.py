"""Which axis of a tensor means what, derived from the operations and never from the shape.

`"NCHW"` and `"NHWC"` are feature maps; `"NCDHW"` is one for each of D frames of a video.

A map of 56 channels may well be 56 high. So the model's input is NCHW, convolutions and pools
make NCHW, `permute` reorders, and everything that keeps the number of axes passes them on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["STACKED", "derive_axes"]

#: Operations whose four-axis result is NCHW whatever went in.
_MAKES_NCHW = frozenset(
    (
        "convolution",
        "native_batch_norm",
        "native_group_norm",
        "max_pool2d_with_indices",
        "max_pool2d",
        "avg_pool2d",
        "_adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
        "pixel_shuffle",
        "pixel_unshuffle",
    )
)

_MAKES_NCDHW = frozenset(
    (
        "convolution",
        "native_batch_norm",
        "native_group_norm",
        "max_pool3d_with_indices",
        "avg_pool3d",
        "_adaptive_avg_pool3d",
    )
)

#: Of these, what leaves the axes of a sequence what they are: it works on the last two.
_KEEPS = frozenset(
    (
        "native_batch_norm",
        "max_pool2d_with_indices",
        "max_pool2d",
        "avg_pool2d",
        "_adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
    )
)

_MADE = {4: (_MAKES_NCHW, "NCHW"), 5: (_MAKES_NCDHW, "NCDHW")}

#: Operations that make one map of several that are stacked.
UNSTACKS = ("sum", "mean", "amax", "amin", "max", "min", "select", "squeeze")

#: In the axes of maps that are stacked, the axis along which they are.
STACKED = "+"

#: Operations after which the axes mean something else, or nothing that can be told.
_LOSES = frozenset(
    ("view", "_unsafe_view", "reshape", "as_strided", "bmm", "expand", "unfold", "im2col")
)


def derive_axes(
    name: str,
    args: Sequence[Any],
    sources: Sequence[tuple[str, Sequence[int]]],
    shape: Sequence[int],
    regrouped: Callable[[], tuple[str, Sequence[int]] | None],
) -> str:
    """The axes of an operation's result: `"NCHW"`, `"NHWC"`, `"NCDHW"`, another order, or `""`.

    Of videos no more is told than that they are `"NCDHW"`, or what of those is permuted.

    Args:
        name: the operation.
        args: its positional arguments.
        sources: `(axes, shape)` of every input that depends on the model's input.
        shape: of the result.
        regrouped: finds `(axes, shape)` of the map that was regrouped earlier: by a linear
            layer, which flattens positions, or by a channel shuffle.
    """
    count = len(shape)
    axes, source_shape = sources[0] if sources else ("", ())
    if axes and name in ("stack", "unsqueeze"):  # maps side by side, on an axis of their own
        at = (int(args[1]) if len(args) > 1 else 0) % count
        return f"{axes[:at]}{STACKED}{axes[at:]}"
    if STACKED in axes and len(source_shape) == count + 1:
        asked = args[1] if len(args) > 1 and name in UNSTACKS else None
        dims = asked if isinstance(asked, list | tuple) else [asked]
        gone = len(dims) == 1 and isinstance(dims[0], int) and axes[dims[0]] == STACKED
        return axes.replace(STACKED, "") if gone else ""
    if count not in _MADE:
        return ""
    makes, made = _MADE[count]
    if name in makes:  # a pool over a sequence of columns, N W C H, makes no map
        sequence = name in _KEEPS and len(axes) == count and axes[1] != "C"
        return axes if sequence else made
    if name == "permute":
        order = [int(axis) % count for axis in args[1]]
        if axes:
            return "".join(axes[axis] for axis in order)
        return {(0, 3, 1, 2): "NCHW", (0, 2, 3, 1): "NHWC"}.get(tuple(order), "")
    if name == "transpose":
        if not axes:
            return ""
        letters = list(axes)
        i, j = int(args[1]) % count, int(args[2]) % count
        letters[i], letters[j] = letters[j], letters[i]
        return "".join(letters)
    if name in ("view", "_unsafe_view"):
        same_map = axes == made and tuple(source_shape[2:]) == tuple(shape[2:])
        if tuple(source_shape) == tuple(shape) or same_map:
            return axes  # instance norm turns images into channels, and back
        known, full = regrouped() or ("", ())
        last = known in ("NHWC", "NDHWC")
        same_positions = last and len(full) == count and tuple(full[:-1]) == tuple(shape[:-1])
        if known == "NCHW" and len(full) == count:  # whole, or in patches
            same_positions = _number_of_each(full) == _number_of_each(shape)
        return known if same_positions or tuple(full) == tuple(shape) else ""
    if name in _LOSES:
        return ""
    for known, source in sources:
        if known and len(source) == count:
            return known
    if name == "native_layer_norm" and len(args[1]) == 1 and count == 4:
        return "NHWC"
    return ""


def _number_of_each(shape: Sequence[int]) -> tuple[int, int, int]:
    """Images, channels and positions of a map, NCHW."""
    images, channels, height, width = shape
    return images, channels, height * width
