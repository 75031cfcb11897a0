"""The command line, run in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import MODULE

from attnzoo.cli import main


@pytest.fixture
def wide_terminal(monkeypatch):
    """Wide enough for every column of the tables."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("ATTNZOO_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def run(capsys):
    """Run the command line: `(exit code, stdout, stderr)`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def ok(run):
    """Run it and see that it goes well; what it prints."""

    def ok(*arguments: str) -> str:
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        return out

    return ok


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder with the network's module in it, as the current one."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks_of_cli_study_tests.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("networks_of_cli_study_tests", None)
