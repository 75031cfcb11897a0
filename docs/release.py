"""Keep the built site as that of this version: `python docs/release.py FOLDER`, after `make docs`.

FOLDER then has a folder a version, each a site of its own that needs nothing of the others, and
a page that leads to the newest and lists the others. Any web server can serve it.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>attnzoo</title>
<meta http-equiv="refresh" content="0; url={newest}/index.html"></head>
<body><h1>attnzoo</h1><ul>
{versions}
</ul></body></html>
"""


def release(site: Path, folder: Path, version: str) -> list[str]:
    """Copy a site to the folder of its version, and return the versions there, newest first."""
    if not (site / "index.html").exists():
        raise FileNotFoundError(f"{site} has no index.html: run `make docs` first.")
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{version}.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(site, new)
    shutil.rmtree(folder / version, ignore_errors=True)
    new.rename(folder / version)
    there = [path.parent.name for path in folder.glob("*/index.html")]
    versions = sorted((v for v in there if v[0].isdigit()), key=_numbers, reverse=True)
    lines = "\n".join(f'<li><a href="{v}/index.html">{v}</a></li>' for v in versions)
    page = PAGE.format(newest=versions[0], versions=lines)
    (folder / "index.html").write_text(page, "utf-8")
    return versions


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


if __name__ == "__main__":
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found = release(ROOT / "site", Path(sys.argv[1]), settings["project"]["version"])
    print(f"Versions in {sys.argv[1]}: {', '.join(found)}")
