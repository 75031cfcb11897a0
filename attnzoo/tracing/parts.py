"""What a trace is made of, as plain data.

Value       a tensor of the forward pass: its shape, its axes, the operation that made it
Op          one operation on values, and the innermost module call in which it ran
Call        one call of a module: path, class, enclosing call, values in, values out
ModuleInfo  what is known of the module that was called

Of these a pass makes thousands, and a named tuple takes a fourth of the time that a frozen
dataclass does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from attnzoo.hosts import prefixes
from attnzoo.tracing.meta_ops import Layout
from attnzoo.tracing.nested import Nested

__all__ = ["Call", "Kind", "ModuleInfo", "Op", "Value", "around", "qualname", "regrouped"]

Kind = Literal["leaf", "sequential", "container", "composite"]


class Value(NamedTuple):
    """A tensor of the forward pass.

    Attributes:
        shape: its shape.
        axes: what the axes of a feature map mean, `"NCHW"`, `"NHWC"`, or `"NCDHW"` for those of
            D frames, as derived from the operations; empty where they do not tell.
        op: index of the operation that made it, -1 for an input of the model.
        layout: shape, strides and dtype: all that can be told of a tensor without values.
    """

    shape: tuple[int, ...]
    axes: str
    op: int
    layout: Layout

    @property
    def is_map(self) -> bool:
        """Whether this is a feature map: `(N, C, H, W)`, `(N, H, W, C)` or `(N, C, D, H, W)`."""
        return self.axes in ("NCHW", "NHWC", "NCDHW")

    @property
    def is_point(self) -> bool:
        """Whether this is a feature map of one pixel."""
        return self.is_map and self.height == self.width == 1

    @property
    def channels(self) -> int:
        return self.shape[self.axes.index("C")]

    @property
    def height(self) -> int:
        return self.shape[self.axes.index("H")]

    @property
    def width(self) -> int:
        return self.shape[self.axes.index("W")]


class Op(NamedTuple):
    """One operation.

    Attributes:
        name: as in `aten`, without namespace, overload and in-place underscore.
        call: index of the innermost module call in which it ran.
        inputs: values read that depend on the model's input.
        outputs: values made.
        kernel: kernel size of a convolution or pool.
        groups: groups of a convolution.
        weight: shape of a convolution's weight.
    """

    index: int
    name: str
    call: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    groups: int = 1
    weight: tuple[int, ...] = ()


class Call(NamedTuple):
    """One call of a module.

    Attributes:
        index: its place in the order in which calls begin.
        path: path of the module (its first, if it is registered under several).
        type: class name of the module.
        parent: index of the enclosing call, -1 for the root.
        inputs, outputs: values passed in positionally, values returned.
        last: index of the last call made inside it (its own, if none was).
        first_op, end_op: the operations run inside it, as a half-open range.
        takes_tensor: whether its first positional argument is a tensor.
        returns_tensor: whether it returned one tensor, and not a tuple, list or dict.
        nested: what it returned otherwise, if that is made of tensors and numbers alone.
    """

    index: int
    path: str
    type: str
    parent: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    last: int
    first_op: int
    end_op: int
    takes_tensor: bool
    returns_tensor: bool
    nested: Nested | None = None

    @property
    def inside(self) -> range:
        """Indices of the calls made inside this one, at any depth."""
        return range(self.index + 1, self.last + 1)

    @property
    def ops(self) -> range:
        """Indices of the operations run inside this call."""
        return range(self.first_op, self.end_op)


def around(path: str) -> tuple[str, ...]:
    return path, *prefixes(path)


@cache
def qualname(cls: type) -> str:
    """The name of a class, with its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


class ModuleInfo(NamedTuple):
    """What the module tree says about one module.

    Attributes:
        paths: all paths under which it is registered.
        type: class name; `qualname`: with its module.
        kind: `sequential` runs `nn.Sequential.forward`; `container` is a list or dict of
            modules; `leaf` has no children or derives from one of torch's own layers;
            `composite` is everything else.
        has_state: whether it, or a module below it, has parameters or buffers.
        has_parameters: whether it, or a module below it, has parameters.
        is_attention: whether attnzoo put it in.
        rebuilds: whether it makes other layers of those it holds, when it is asked to.
    """

    paths: tuple[str, ...]
    type: str
    qualname: str
    kind: Kind
    has_state: bool
    has_parameters: bool
    is_attention: bool = False
    rebuilds: bool = False


def regrouped(
    values: Sequence[Value], ops: Sequence[Op], value: int
) -> tuple[str, tuple[int, ...]] | None:
    """The map that was flattened or regrouped on the way to `value`: its axes and shape."""
    for _ in range(6):  # view → addmm → activation → addmm …: an MLP on flat positions
        made_by = values[value].op
        if made_by < 0:
            return None
        value = ops[made_by].inputs[0]
        if values[value].axes:
            return values[value].axes, values[value].shape
    return None
