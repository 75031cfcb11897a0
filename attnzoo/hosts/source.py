"""Code that reads the positions of a module's children, in whatever method it stands.

What the forward pass does that is followed is watched while it runs (`tracing/positions.py`). This
is about the methods that it does not call: other ways to run the network, other modes.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType

from torch import nn

__all__ = ["reads_positions"]

_ITERATORS = {"children", "named_children", "_modules", "modules", "named_modules"}
_POSITIONAL = {"enumerate", "len", "zip", "list", "tuple", "iter", "reversed", "range"}


@functools.cache
def reads_positions(cls: type[nn.Module], attribute: str) -> bool:
    """Whether a method other than `__init__` indexes, counts or iterates `self.<attribute>`.

    Inserting an entry there would shift the positions that such code means: timm's DenseNet
    finds its feature maps by `enumerate(self.features)`.
    """
    return any(
        name != "__init__"
        and attribute in function.__code__.co_names
        and _reads_positions(function, attribute)
        for name, function in _methods(cls)
    )


def _methods(cls: type[nn.Module]) -> Iterator[tuple[str, FunctionType]]:
    for base in cls.__mro__:
        if base is nn.Module or base.__module__.startswith("torch.nn.modules"):
            continue
        for name, member in vars(base).items():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                yield name, function


def _parse(function: FunctionType) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None


def _reads_positions(function: FunctionType, attribute: str) -> bool:
    tree = _parse(function)
    if tree is None:
        return True
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    return any(
        _is_positional(node, parents)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _is_positional(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    parent = parents.get(node)
    if isinstance(parent, ast.Subscript | ast.For | ast.comprehension | ast.Assign | ast.Starred):
        return node is not getattr(parent, "slice", None)
    if isinstance(parent, ast.Attribute):
        return parent.attr in _ITERATORS
    if isinstance(parent, ast.Call) and node in parent.args:
        return isinstance(parent.func, ast.Name) and parent.func.id in _POSITIONAL
    return False
