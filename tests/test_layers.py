"""The rooms of the package: who imports whom, what stands where, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

PACKAGE = ROOT / "attnzoo"
FILES = sorted(PACKAGE.rglob("*.py"))

#: Modules beside the rooms: the doors, what everyone stands on, what is done with attended models.
AT_THE_ROOT = {
    *("__init__", "__main__", "api", "errors", "checks", "costs", "maps", "tuning", "weights"),
    *("shrinking", "reference", "switching", "merging", "files"),
}


def test_a_file_imports_only_from_lower_layers():
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_import_goes_past_a_face():
    """A module is imported by files of its own folder; all others take names of its package."""
    assert FILES
    past = [
        f"{file.relative_to(ROOT)}:{line} imports {module}"
        for file in FILES
        for line, module in imported(file)
        if not is_package(module) and not within(package_of(file), module.rpartition(".")[0])
    ]
    assert not past, "\n".join(past)


def test_only_doors_and_ground_stand_beside_the_rooms():
    assert {file.stem for file in PACKAGE.glob("*.py")} <= AT_THE_ROOT
    assert {file.stem for file in (PACKAGE / "study").glob("*.py")} == {"__init__", "engine"}


def test_every_room_says_what_comes_in_and_what_goes_out():
    rooms = [face.parent for face in PACKAGE.glob("*/__init__.py")]
    rooms += [face.parent for face in PACKAGE.glob("study/*/__init__.py")]
    assert rooms
    for room in rooms:
        lines = (room / "README.md").read_text("utf-8").splitlines()
        assert lines[0].startswith(f"# {room.name}: ")
        assert len(lines) <= 15
        assert any(line.startswith("Never here: ") for line in lines)


@pytest.mark.parametrize(("folder", "most"), [("attnzoo", 360), ("tests", 600)])
def test_no_file_is_long(folder: str, most: int):
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines())
        for file in (ROOT / folder).rglob("*.py")
    }
    assert lengths
    assert not {file: length for file, length in lengths.items() if length > most}


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """The modules of attnzoo that a file imports, anywhere in it, each with its line."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package_of(file).split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            names = [(module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            if module.partition(".")[0] == "attnzoo":
                submodule = name and is_module(f"{module}.{name}") and name not in face(module)
                yield node.lineno, f"{module}.{name}" if submodule else module


def package_of(file: Path) -> str:
    return ".".join(file.parent.relative_to(ROOT).parts)


def within(package: str, around: str) -> bool:
    return f"{package}.".startswith(f"{around}.")


def is_package(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).is_dir()


def is_module(name: str) -> bool:
    return is_package(name) or (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


def face(package: str) -> set[str]:
    """The names that a package's `__init__` imports, or says in its stub that it loads."""
    folder = ROOT / package.replace(".", "/")
    files = [file for file in (folder / "__init__.py", folder / "__init__.pyi") if file.is_file()]
    nodes = [node for file in files for node in ast.parse(file.read_text("utf-8")).body]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}
