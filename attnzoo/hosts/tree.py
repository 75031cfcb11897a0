"""The module tree: every path of every module, look-up and replacement by path."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from attnzoo.errors import SiteError, UnsupportedModelError

__all__ = [
    "check_module",
    "get_module",
    "has_attribute",
    "join",
    "modules_by_path",
    "parameters_by_name",
    "paths_by_module",
    "prefixes",
    "split",
    "tensors_below",
    "walk",
]


#: A module and those around it, innermost first.
_Around = tuple[nn.Module, "_Around | None"]

#: Modules under two names that hold modules under two names double the paths at each level.
_MOST_PATHS = 500_000


def check_module(model: object) -> None:
    """Refuse what is no module, such as the None that a function forgot to return.

    Raises:
        UnsupportedModelError: it is none.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"expected an nn.Module, got {type(model).__name__}.")


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

    Raises:
        UnsupportedModelError: a module holds itself, or the paths are too many to be walked.
    """
    ahead: list[tuple[str, nn.Module, _Around | None]] = [(prefix, root, None)]
    seen: set[nn.Module] = set()
    count = 0
    while ahead:
        path, module, around = ahead.pop()
        if type(module).__hash__ is None:
            raise UnsupportedModelError(
                f"{repr(path) if path else 'the model'} ({type(module).__name__}) has an __eq__ of "
                f"its own and no __hash__, so that torch cannot list its parameters either. Add to "
                f"the class: __hash__ = nn.Module.__hash__"
            )
        if module in seen:
            _check_not_inside_itself(path, module, around)
        seen.add(module)
        count += 1
        if count > _MOST_PATHS:
            raise UnsupportedModelError(
                f"{type(root).__name__} has more than {_MOST_PATHS:,} paths to {len(seen):,} "
                f"modules: modules that are held under several names hold others that are."
            )
        yield path, module
        if module._modules:
            inside = (module, around)
            for name, child in reversed(module._modules.items()):
                if child is not None:
                    ahead.append((join(path, name), child, inside))


def _check_not_inside_itself(path: str, module: nn.Module, around: _Around | None) -> None:
    while around is not None:
        outer, around = around
        if outer is module:
            raise UnsupportedModelError(
                f"{path!r} ({type(module).__name__}) holds itself, so its paths have no end. Keep "
                f"what leads back to it out of the module tree, in a list of one for instance."
            )


def paths_by_module(root: nn.Module) -> dict[nn.Module, tuple[str, ...]]:
    """Every module → all its paths, the first one first.

    Raises:
        UnsupportedModelError: as `walk`.
    """
    paths: dict[nn.Module, list[str]] = {}
    for path, module in walk(root):
        paths.setdefault(module, []).append(path)
    return {module: tuple(known) for module, known in paths.items()}


def modules_by_path(root: nn.Module) -> dict[str, nn.Module]:
    """Every module by its first path.

    As `named_modules`, which a network may have made its own, to hide parts of it say.
    """
    return {paths[0]: module for module, paths in paths_by_module(root).items()}


def parameters_by_name(root: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter by its first name, whatever the network's own `named_modules` lists."""
    found: dict[str, nn.Parameter] = {}
    known: set[int] = set()
    for path, module in modules_by_path(root).items():
        for name, parameter in vars(module)["_parameters"].items():
            if parameter is not None and id(parameter) not in known:
                known.add(id(parameter))
                found[join(path, name)] = parameter
    return found


def tensors_below(root: nn.Module) -> Iterator[Tensor]:
    """The parameters of a module and of those in it, then their buffers."""
    for held in ("_parameters", "_buffers"):
        for _, module in walk(root):
            yield from (tensor for tensor in vars(module)[held].values() if tensor is not None)


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


def has_attribute(module: nn.Module, name: str) -> bool:
    """Whether a module or its class has an attribute of that name.

    Unlike `hasattr` this does not ask a `__getattr__` of the module's own, which may say so of any.
    """
    own = vars(module)
    registered = (own["_parameters"], own["_buffers"], own["_modules"])
    return name in own or any(name in names for names in registered) or hasattr(type(module), name)
