"""The module tree: every path of every module, look-up and replacement by path."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from attnzoo.errors import SiteError

__all__ = ["get_module", "join", "paths_by_module", "prefixes", "split", "unique_name", "walk"]


def join(parent: str, name: str) -> str:
    """`"a.b"` and `"c"` → `"a.b.c"`; the root is the empty path."""
    return f"{parent}.{name}" if parent else name


def split(path: str) -> tuple[str, str]:
    """`"a.b.c"` → `("a.b", "c")`."""
    parent, _, name = path.rpartition(".")
    return parent, name


def prefixes(path: str) -> Iterator[str]:
    """The paths around `path`, innermost first: `"a.b.c"` → `"a.b"`, `"a"`, `""`."""
    while path:
        path = split(path)[0]
        yield path


def walk(root: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every `(path, module)` below and including `root`, in registration order.

    Unlike `named_modules`, a module registered under several names is met under each of them.
    """
    ahead = [(prefix, root)]
    while ahead:
        path, module = ahead.pop()
        yield path, module
        for name, child in reversed(module._modules.items()):
            if child is not None:
                ahead.append((join(path, name), child))


def paths_by_module(root: nn.Module) -> dict[nn.Module, tuple[str, ...]]:
    """Every module → all its paths, the first one first."""
    paths: dict[nn.Module, tuple[str, ...]] = {}
    for path, module in walk(root):
        paths[module] = (*paths.get(module, ()), path)
    return paths


def get_module(root: nn.Module, path: str) -> nn.Module:
    """The module at `path`.

    Raises:
        SiteError: if there is none; the message names the deepest module that does exist.
    """
    module = root
    walked = ""
    for name in path.split(".") if path else []:
        child = module._modules.get(name)
        if child is None:
            there = ", ".join(module._modules) or "no children"
            raise SiteError(
                f"no module at {path!r}: {walked or 'the root'} ({type(module).__name__}) "
                f"has no child {name!r} (it has {there})."
            )
        module = child
        walked = join(walked, name)
    return module


def unique_name(parent: nn.Module, wanted: str) -> str:
    """`wanted`, or `wanted_2`, `wanted_3`, … if the parent has an attribute of that name."""
    name, count = wanted, 1
    while name in parent._modules or hasattr(parent, name):
        count += 1
        name = f"{wanted}_{count}"
    return name
