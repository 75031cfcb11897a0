"""The paper of a block as a BibTeX entry, read from the head of the file that defines the block."""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnzoo.registry import BlockSpec

__all__ = ["bibtex"]

# As in: A. Vaswani, N. Shazeer, "Attention Is All You Need", NeurIPS 2017, arXiv 1706.03762.
_SOURCE = re.compile(
    r'(?P<authors>[A-Z]\.[^"]*?), "(?P<title>[^"]+)"(?: \([^)]+\))?, '
    r"(?P<venue>[^.,]*?) ?(?P<year>\d{4})(?: \([^)]+\))?(?:, arXiv (?P<arxiv>[\d.]+\d))?"
)


def bibtex(spec: BlockSpec) -> str:
    """The entry to cite, or an empty text for a block that has no paper."""
    if not spec.paper or spec.year is None:
        return ""
    head = " ".join((sys.modules[spec.factory.__module__].__doc__ or "").split())
    sources = list(_SOURCE.finditer(head))
    found = next((s for s in sources if s["arxiv"] == spec.arxiv), None)
    if found is None:  # another package's block: what its registration says
        fields = {"title": spec.paper, "year": str(spec.year)}
        key, kind = spec.name, "misc"
    else:
        authors = found["authors"].split(", ")
        fields = {"title": found["title"], "author": " and ".join(authors)}
        kind = "inproceedings" if found["venue"] else "misc"
        if found["venue"]:
            fields["booktitle"] = found["venue"]
        fields["year"] = found["year"]
        first_word = re.sub(r"\W", "", found["title"].split()[0])
        key = _ascii(f"{authors[0].split()[-1]}{found['year']}{first_word}").lower()
    if spec.arxiv:
        fields |= {"eprint": spec.arxiv, "archiveprefix": "arXiv"}
    width = max(map(len, fields))
    # Double braces keep the capitals of acronyms.
    lines = [
        f"  {name:<{width}} = {'{{' if name == 'title' else '{'}{_escaped(value)}"
        f"{'}}' if name == 'title' else '}'},"
        for name, value in fields.items()
    ]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _escaped(text: str) -> str:
    return re.sub(r"([&%#_])", r"\\\1", text)
