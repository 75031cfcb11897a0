"""Overlays have the picture's size, and show the map where the network looked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trained import Run, trained_run

import attnzoo
from attnzoo.errors import NoMapsError, NotWrappedError
from attnzoo.trained import open_network, overlays, write_maps


def test_an_overlay_a_picture_and_place(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    network = open_network(run.folder)
    sheet, *over = write_maps(network, pictures[:3], tmp_path / "maps")
    assert len(over) == 3 * len(attnzoo.attention_modules(network.model))
    assert sorted((tmp_path / "maps").iterdir()) == sorted([sheet, *over])
    for path in over:
        assert Image.open(path).size == Image.open(pictures[0]).size == (10, 12)
    assert Image.open(sheet).width > 160


def test_a_sheet_says_how_much_of_all_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "COLUMNS", 3)
    assert overlays._some("abcdefgh") == ["a", "e", "h"]
    assert overlays._some("ab") == ["a", "b"]
    told = overlays._heading(2, 5, 8)
    assert told.startswith("2 of 5 pictures, 3 of 8 maps each")
    assert overlays._heading(1, 1, 1).startswith("1 picture, 1 map each")


def test_the_map_lies_on_what_the_network_saw() -> None:
    import matplotlib

    white = Image.new("RGB", (40, 20), "white")
    heat = np.zeros((2, 2))
    heat[0, 0] = 1
    over = np.asarray(overlays._overlay(white, heat, 1.0, matplotlib.colormaps["inferno"])).astype(
        int
    )
    assert (over[:, :10] == 127).all()  # left of the square in the middle: dimmed
    assert (over[:, 30:] == 127).all()
    assert over[0, 10].sum() > over[19, 29].sum() + 200


def test_without_maps_it_says_so(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    se = trained_run(tmp_path, variant={"policy": "post-residual", "block": "se"})
    with pytest.raises(NoMapsError, match="channel"):
        write_maps(open_network(se.folder), pictures[:1], tmp_path / "maps")
    plain = trained_run(tmp_path / "plain", variant={})
    with pytest.raises(NotWrappedError, match="a plain timm/test_resnet: there is no attention"):
        write_maps(open_network(plain.folder), pictures[:1], tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
