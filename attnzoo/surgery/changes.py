"""Changes to a module tree: prepared aside, then made in one step that nothing can split.

Python runs handlers of signals, and other threads, between the steps of its own code, never within
one call of a function that is written in C. So what is prepared here is a list of such functions,
and one more runs them all.
"""

from __future__ import annotations

import operator
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

from torch import nn
from torch.utils.hooks import RemovableHandle

from attnzoo.errors import SiteError
from attnzoo.hosts import join

__all__ = ["Changes", "HookKind"]

HookKind = Literal["_forward_hooks", "_forward_pre_hooks"]

#: Stands for an attribute that is to be deleted.
_GONE: Any = object()


class Changes:
    """What is to become of the modules of one tree; until `commit` none of them is touched.

    What is asked of it is answered as if all that was said before had been done.

    Args:
        root: the tree.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self._children: dict[nn.Module, dict[str, nn.Module | None]] = {}
        self._kinds: dict[nn.Module, type[dict[Any, Any]]] = {}
        self._attributes: dict[nn.Module, dict[str, Any]] = {}
        self._classes: dict[nn.Module, type] = {}
        self._hooks: list[Callable[[], Any]] = []

    # --- what will be -------------------------------------------------------------------------

    def children(self, module: nn.Module) -> dict[str, nn.Module | None]:
        """The children that a module will have; not to be changed."""
        return self._children.get(module, module._modules)

    def attribute(self, module: nn.Module, name: str, default: Any = None) -> Any:
        """An attribute of its own that a module will have."""
        changed = self._attributes.get(module, {})
        value = changed[name] if name in changed else vars(module).get(name, default)
        return default if value is _GONE else value

    def get(self, path: str) -> nn.Module:
        """The module that will be at `path`.

        Raises:
            SiteError: there will be none.
        """
        module, walked = self.root, ""
        for name in path.split(".") if path else []:
            child = self.children(module).get(name)
            if child is None:
                there = ", ".join(self.children(module)) or "no children"
                raise SiteError(
                    f"no module at {path!r}: {walked or 'the root'} ({type(module).__name__}) "
                    f"has no child {name!r} (it has {there})."
                )
            module, walked = child, join(walked, name)
        return module

    # --- what is to be done -------------------------------------------------------------------

    def set_children(self, module: nn.Module, children: dict[str, nn.Module | None]) -> None:
        """These children, in this order."""
        self._children[module] = children

    def put(self, module: nn.Module, name: str, child: nn.Module | None) -> None:
        """A child: in the place of another of that name, or as the last."""
        self.set_children(module, {**self.children(module), name: child})

    def take(self, module: nn.Module, name: str) -> None:
        """No child of that name."""
        self.set_children(module, {n: c for n, c in self.children(module).items() if n != name})

    def set_kind(self, module: nn.Module, kind: type[dict[Any, Any]]) -> None:
        """Another kind of dict for its children."""
        self.set_children(module, self.children(module))
        self._kinds[module] = kind

    def set_attribute(self, module: nn.Module, name: str, value: Any) -> None:
        """An attribute in the module's own dict."""
        self._attributes.setdefault(module, {})[name] = value

    def drop_attribute(self, module: nn.Module, name: str) -> None:
        """No such attribute."""
        self.set_attribute(module, name, _GONE)

    def set_class(self, module: nn.Module, cls: type) -> None:
        """Another class."""
        self._classes[module] = cls

    def add_hook(self, module: nn.Module, kind: HookKind, hook: Any) -> RemovableHandle:
        """One more hook. Handles refer to the dicts that hold hooks, so these stay the same."""
        hooks: OrderedDict[int, Any] = getattr(module, kind)
        handle = RemovableHandle(hooks)
        self._hooks.append(partial(OrderedDict.__setitem__, hooks, handle.id, hook))
        return handle

    def drop_hook(self, module: nn.Module, kind: HookKind, number: int) -> None:
        """No hook of that number."""
        hooks: OrderedDict[int, Any] = getattr(module, kind)
        self._hooks.append(partial(OrderedDict.pop, hooks, number, None))

    def commit(self) -> None:
        """Make all the changes."""
        steps: list[Callable[[], Any]] = []
        for module, children in self._children.items():
            kind = self._kinds.get(module, type(module._modules))
            steps.append(partial(dict.update, vars(module), {"_modules": kind(children)}))
        for module, attributes in self._attributes.items():
            kept = {name: value for name, value in attributes.items() if value is not _GONE}
            steps.append(partial(dict.update, vars(module), kept))
            gone = [name for name in attributes if name not in kept]
            steps += [partial(dict.pop, vars(module), name, None) for name in gone]
        for module, cls in self._classes.items():
            steps.append(partial(object.__setattr__, module, "__class__", cls))
        steps += self._hooks
        deque(map(cast("Any", operator.call), steps), maxlen=0)
