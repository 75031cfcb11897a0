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

__all__ = ["REBUILDING", "reads_positions", "rebuilds", "run_otherwise"]

#: Methods by which a module merges what it holds into fewer layers (timm's, RepVGG's), and by which
#: an adapter hands back the layer that it stands around (peft's).
REBUILDING = (
    "fuse",
    "reparameterize",
    "switch_to_deploy",
    "get_base_layer",
    "base_layer",
    "unload_and_optionally_merge_module",
)

_ITERATORS = {"children", "named_children", "_modules", "modules", "named_modules"}
_WALKS = {"modules", "named_modules", "children", "named_children"}
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


@functools.cache
def rebuilds(cls: type[nn.Module]) -> bool:
    """Whether modules of a class make other layers of what they hold, when they are asked to.

    Attention in such a module, or hooked to it, would be lost then, or stand in the way. A network
    that asks all modules in it, one after the other, rebuilds none itself.
    """
    methods = (getattr(cls, name, None) for name in REBUILDING)
    return any(isinstance(method, FunctionType) and _rebuilds(method) for method in methods)


def _rebuilds(method: FunctionType) -> bool:
    tree = _parse(method)
    nodes = list(ast.walk(tree)) if tree is not None else []
    called = (node.func for node in nodes if isinstance(node, ast.Call))
    if any(isinstance(func, ast.Attribute) and func.attr in _WALKS for func in called):
        return False
    return tree is None or any(
        (isinstance(node, ast.Return) and node.value is not None)
        or (isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load))
        for node in nodes
    )


@functools.cache
def run_otherwise(owner: type[nn.Module], cls: type[nn.Module]) -> str:
    """The method, not `forward`, by which a class runs modules of another in it; "" if none.

    Hooks, and what stands around such a module, are passed by then: timm's Xception calls
    `block.forward_with_tap`.
    """
    other = {name for name, _ in _methods(cls) if name.startswith("forward_")}
    return min(other & _called(owner), default="") if other else ""


@functools.cache
def _called(cls: type[nn.Module]) -> frozenset[str]:
    """Names of `forward_…` methods that a class calls on other modules, or has called for it."""
    found: set[str] = set()
    for _, function in _methods(cls):
        if any(name.startswith("forward_") for name in function.__code__.co_names):
            calls = (n for n in ast.walk(_parse(function) or ast.Pass()) if isinstance(n, ast.Call))
            used = (node for call in calls for node in (call.func, *call.args))
            found |= {
                node.attr
                for node in used
                if isinstance(node, ast.Attribute)
                and not (isinstance(node.value, ast.Name) and node.value.id == "self")
            }
    return frozenset(name for name in found if name.startswith("forward_"))


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
