"""A room imports only from lower rooms."""

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
