"""The digest of code: of what a function's module uses, and of nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnzoo.backbones import code_digest

FILES = {
    "codenet/__init__.py": "",
    "codenet/net.py": "from torch import nn\n\nfrom . import parts\nfrom .sizes import WIDTH\n\n\n"
    "def net(num_classes=3):\n    return parts.make(WIDTH, num_classes)\n",
    "codenet/parts.py": "from torch import nn\n\n\ndef make(width, classes):\n"
    "    return nn.Linear(width, classes)\n",
    "codenet/sizes.py": "WIDTH = 4\n",
    "codenet/unused.py": "NOTHING = 1\n",
    "beside.py": "NOTHING = 1\n",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "codenet"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def digest() -> str:
    forget()
    return code_digest("codenet.net:net")


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        ("codenet/net.py", FILES["codenet/net.py"].replace("=3", "=5"), True),
        ("codenet/parts.py", FILES["codenet/parts.py"].replace("nn.Linear", "nn.LazyLinear"), True),
        ("codenet/sizes.py", "WIDTH = 40\n", True),
        ("codenet/sizes.py", "# of the map\n\nWIDTH = 4  # pixels\n", False),
        ("codenet/unused.py", "NOTHING = 2\n", False),
        ("beside.py", "NOTHING = 2\n", False),
    ],
)
def test_what_counts(file: str, text: str, counts: bool, home: Path) -> None:
    before = digest()
    (home / file).write_text(text)
    assert (digest() != before) == counts


def test_the_place_does_not_count(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = digest()
    other = tmp_path_factory.mktemp("other")
    for name, text in FILES.items():
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_text(text)
    sys.path.insert(0, str(other))
    try:
        assert digest() == before
    finally:
        sys.path.remove(str(other))


def test_a_librarys_network_is_told_by_its_name() -> None:
    assert code_digest("timm/resnet18") == code_digest("torchvision/resnet18") == ""
