"""The code of a network of one's own, as a digest: changed code is another network."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from attnzoo.backbones.naming import find_backbone

__all__ = ["code_digest", "digest_of_module"]

INSTALLED = ("site-packages", "dist-packages")


def code_digest(name: str) -> str:
    """Of the source files of a function of yours; "" for a library's network, whose name says all.

    Of the function's module, and of what it uses out of its own package, or out of the folder
    that it is in. Comments, empty lines and blanks at the end of lines do not count.

    Raises:
        UnknownNameError: no such network.
    """
    if find_backbone(name).library != "own":
        return ""
    return digest_of_module(name.partition(":")[0])


def digest_of_module(name: str) -> str:
    """The same of an imported module."""
    digest = hashlib.blake2b(digest_size=8)
    for module, path in sorted(_files(sys.modules[name])):
        digest.update(module.encode())
        digest.update(_code(path).encode())
    return digest.hexdigest()


def _files(start: ModuleType) -> set[tuple[str, Path]]:
    """Name and source file of the module, and of those around it that it uses."""
    found: dict[str, Path] = {}
    waiting = [start]
    home = _home(start)
    while waiting:
        module = waiting.pop()
        path = getattr(module, "__file__", None)
        if module.__name__ in found or path is None or not path.endswith(".py"):
            continue
        path = Path(path).resolve()
        if module is not start and not _is_inside(path, home):
            continue
        found[module.__name__] = path
        waiting += _imported(module, path)
    return set(found.items())


def _home(module: ModuleType) -> Path | None:
    """The folder of the module's package, or the one that it is in by itself."""
    package = sys.modules.get(module.__name__.partition(".")[0], module)
    path = getattr(package, "__file__", None)
    if path is None:
        return None
    folder = Path(path).resolve().parent
    return None if folder.name in INSTALLED else folder


def _is_inside(path: Path, home: Path | None) -> bool:
    if home is None or home not in path.parents:
        return False
    return not set(INSTALLED) & set(path.relative_to(home).parts)


def _imported(module: ModuleType, path: Path) -> Iterator[ModuleType]:
    """The modules that a source file imports, anywhere in it, as far as they are loaded."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:  # it was imported before it was changed
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.level:
                base = importlib.util.resolve_name(base, module.__package__ or "")
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (sys.modules[name] for name in names if name in sys.modules)


def _code(path: Path) -> str:
    """A source file without what changes nothing."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return text
    return "\n".join(line.rstrip() for line in lines if line.strip())
