"""Names → specs: wildcard lists, entry points, closest names."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from attnzoo.checks import did_you_mean
from attnzoo.errors import OptionError, UnknownNameError
from attnzoo.registry.specs import BlockSpec, PolicySpec

__all__ = ["Registry"]


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(t)) if t.isdecimal() else (1, t) for t in re.split(r"(\d+)", name) if t]


def _makes(spec: BlockSpec | PolicySpec | None, target: object) -> bool:
    """Whether `spec` was registered for the very function or class `target`."""
    return target is getattr(spec, "factory", getattr(spec, "find", None))


Spec = TypeVar("Spec", BlockSpec, PolicySpec)


class Registry(Generic[Spec]):
    """Specs by name. Entry points of other packages are read when a look-up first needs them."""

    def __init__(self, noun: str, group: str, register: Callable[[str], Any]) -> None:
        self.noun = noun
        self.group = group
        self.register = register
        self._specs: dict[str, Spec] = {}
        self._families: dict[str, tuple[tuple[str, ...], Callable[[str], Spec]]] = {}
        self._entry_points_read = False

    def _load_own(self) -> None:
        """Register what attnzoo has itself: the package that is called as the entry points are."""
        import_module(self.group)  # costs nothing after the first time, and waits for other threads

    def add(self, spec: Spec, *, overwrite: bool = False) -> None:
        """Register `spec`.

        Raises:
            OptionError: if the name is empty, or taken and `overwrite` is false.
        """
        if not spec.name or any(c.isspace() or c in "*?[]/" for c in spec.name):
            raise OptionError(
                f"{self.noun} name {spec.name!r}: use letters, digits, '-', '_', ':' or '.'."
            )
        self._load_own()
        if spec.name in self._specs and not overwrite:
            raise OptionError(
                f"{self.noun} {spec.name!r} is registered already; "
                f"choose another name or pass overwrite=True."
            )
        self._specs[spec.name] = spec

    def add_family(self, prefix: str, members: Iterable[str], make: Callable[[str], Spec]) -> None:
        """Register the names `prefix:member`, whose specs `make(member)` builds when asked for.

        They are listed only by patterns that begin with the prefix: they are another library's.
        """
        self._families[prefix] = (tuple(members), cache(make))

    def _member(self, name: object) -> Spec | None:
        prefix, _, member = str(name).partition(":")
        members, make = self._families.get(prefix, ((), None))
        return make(member) if make is not None and member in members else None

    def __getitem__(self, name: str) -> Spec:
        self._load_own()
        if name not in self._specs:
            if (spec := self._member(name)) is not None:
                return spec
            self._read_entry_points()
        if name not in self._specs:
            prefix = str(name).partition(":")[0]
            known = self.names(f"{prefix}:*" if prefix in self._families else "*")
            raise UnknownNameError(
                f"no {self.noun} is called {name!r}.{did_you_mean(str(name), known)} "
                f"There are: {', '.join(known)}."
            )
        return self._specs[name]

    def __contains__(self, name: object) -> bool:
        self._read_entry_points()
        return name in self._specs or self._member(name) is not None

    def __iter__(self) -> Iterator[Spec]:
        return (self[name] for name in self.names())

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match the wildcard `pattern`, in natural order."""
        self._read_entry_points()
        names = set(self._specs)
        for prefix, (members, _) in self._families.items():
            if pattern.startswith(f"{prefix}:"):
                names.update(f"{prefix}:{member}" for member in members)
        return sorted((n for n in names if fnmatch.fnmatchcase(n, pattern)), key=_natural)

    def _read_entry_points(self) -> None:
        """Load what other packages offer.

        An entry point names a function or class to register under the entry point's name, or a
        module that registers its own when imported. One that cannot be loaded, or whose name is
        taken, is left out with a warning: it must not take the other names down with it.
        """
        self._load_own()
        if self._entry_points_read:
            return
        self._entry_points_read = True
        for point in entry_points(group=self.group):
            before = self._specs.get(point.name)
            try:
                target = point.load()  # importing it may register by decorator
                known = self._specs.get(point.name)
                if callable(target) and known is before and not _makes(known, target):
                    self.register(point.name)(target)
            except Exception as error:
                warnings.warn(
                    f"{self.noun} {point.name!r} of entry point {point.value!r} is left out: "
                    f"{type(error).__name__}: {error}",
                    stacklevel=2,
                )
