"""Every block's paper as a BibTeX entry."""

from __future__ import annotations

import re

import pytest
from torch import nn

import attnzoo
from attnzoo.cli.citation import bibtex
from attnzoo.registry import BLOCKS

NAMES = [n for n in attnzoo.list_blocks() if BLOCKS[n].factory.__module__.startswith("attnzoo.")]
WITH_PAPER = [name for name in NAMES if BLOCKS[name].year]


@pytest.mark.parametrize("name", WITH_PAPER)
def test_the_entry_is_that_of_the_blocks_paper(name: str) -> None:
    spec = BLOCKS[name]
    fields = dict(re.findall(r"^  (\w+) += \{+(.+?)\}+,$", bibtex(spec), re.MULTILINE))
    assert fields["year"] == str(spec.year)
    assert fields.get("eprint") == spec.arxiv
    # the registry names the authors by surname, up to the colon: "Hu, Shen: …" or "Liu et al.: …"
    surnames = [author.split()[-1] for author in fields["author"].split(" and ")]
    named = spec.paper.partition(":")[0].replace("et al.", "").split(" of ")[-1]
    for surname in named.split(","):
        assert surname.split()[-1] in surnames
    assert all(re.match(r"[A-Z]\.", author) for author in fields["author"].split(" and "))


def test_the_whole_entry() -> None:
    assert (
        bibtex(BLOCKS["scse"])
        == """@inproceedings{roy2018concurrent,
  title         = {{Concurrent Spatial and Channel 'Squeeze \\& Excitation' in Fully Convolutional \
Networks}},
  author        = {A. G. Roy and N. Navab and C. Wachinger},
  booktitle     = {MICCAI},
  year          = {2018},
  eprint        = {1803.02579},
  archiveprefix = {arXiv},
}"""
    )


def test_blocks_without_a_paper_have_no_entry() -> None:
    assert bibtex(BLOCKS["none"]) == bibtex(BLOCKS["local"]) == ""


def test_a_block_from_elsewhere_is_cited_by_what_it_registers(registries: None) -> None:
    @attnzoo.register_block("far", paper="Far, Away: A Gate (2030)", year=2030, arxiv="3001.00001")
    class Far(nn.Identity):
        def __init__(self, channels: int) -> None:
            super().__init__()

    entry = bibtex(BLOCKS["far"])
    assert entry.startswith("@misc{far,")
    assert "{{Far, Away: A Gate (2030)}}" in entry
    assert "eprint        = {3001.00001}" in entry
