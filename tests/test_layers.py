"""The layers hold, and importing attnzoo is cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from places import ROOT


def test_a_file_imports_only_from_lower_layers():
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_importing_attnzoo_brings_in_nothing_that_only_studies_need():
    extras = ["lightning_fabric", "matplotlib", "scipy", "sklearn", "ray", "cyclopts", "pydantic"]
    code = f"import attnzoo, sys; print([name for name in {extras} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
