"""Colours, markers and overlays can be told apart."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from attnzoo.study import read_folder
from attnzoo.study.report.looks import MARKERS, PALETTE, PLAIN, glyph, variant_looks
from attnzoo.study.report.overlays import overlay


def test_maps_are_laid_over_one_test_picture(mapped: Path) -> None:
    source = (mapped / "report.html").read_text()
    assert source.count('<img src="data:image/jpeg;base64,') == 1  # cbam's spatial gate
    assert source.count("<polyline") == 2  # the channel gates of cbam and of eca
    assert "spatial_gate at attn_pre_3" in source
    assert re.search(r"0\.\d+–0\.\d+, γ 0\.\d{3}", source)


def test_an_overlay_is_dark_where_attention_is_low() -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8), 255).save(out, format="PNG")
    heat = np.tile(np.linspace(0.2, 0.9, 8, dtype=np.float32), (8, 1))
    pixels = np.asarray(Image.open(io.BytesIO(overlay(out.getvalue(), heat))), dtype=float)
    assert pixels.shape == (96, 96, 3)
    lightness = pixels.mean((0, 2))
    assert lightness[-8:].min() > lightness[:8].max() + 80
    assert (np.diff(lightness[::8]) > -3).all()
    flat = np.asarray(Image.open(io.BytesIO(overlay(out.getvalue(), heat * 0))), dtype=float)
    assert flat.std((0, 1)).max() < 2


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("paper", ["#fcfcfb", "#ffffff", "#15171a", "#1c1f24"])
def test_colours_stand_out_on_light_and_dark_paper(paper: str) -> None:
    source = (ROOT / "attnzoo/study/report/templates/page.html.j2").read_text()
    assert paper in source
    for colour in (*PALETTE, PLAIN):
        light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_many_variants_look_different(done: Path) -> None:
    plain, other = read_folder(done)[1][:2]
    many = [
        replace(other, result=other.result.model_copy(update={"variant": f"block {i}"}))
        for i in range(50)
    ]
    looks = variant_looks([plain, *many])
    assert len({(look.colour, look.marker) for look in looks.values()}) == 51
    assert len({(look.colour, look.line) for look in list(looks.values())[:29]}) == 29
    assert all(MARKERS[look.marker] in glyph(look) for look in looks.values())
