"""Shortcuts: planted ones are found, none is found where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import f_oneway, spearmanr

from grmp_core.imaging.decoding import DEFAULT_LIMITS
from grmp_core.inspection.image_facts import ImageFacts, facts_of
from grmp_core.inspection.near_duplicates import hash_of
from grmp_core.inspection.shortcuts import properties_of, share_explained, shortcuts, srcc_without_pixels

RNG = np.random.default_rng(0)
N = 400
WIDTH, HEIGHT = RNG.integers(300, 900, N), RNG.integers(300, 900, N)
BYTES = RNG.integers(10_000, 90_000, N)
PROPERTIES = properties_of(WIDTH, HEIGHT, BYTES)
KINDS = np.where(RNG.random(N) < 0.5, "JPEG", "PNG").tolist()
IDS = [f"r{k // 4}" for k in range(N)]


def test_a_planted_shortcut_is_found_and_nothing_else() -> None:
    quality = WIDTH * HEIGHT / 1e6 + RNG.normal(0, 0.1, N)
    found = {one.name: one for one in shortcuts(quality, PROPERTIES)}
    assert found["megapixels"].srcc == pytest.approx(spearmanr(WIDTH * HEIGHT, quality).statistic)
    assert found["megapixels"].is_hint
    assert not found["width / height"].is_hint
    assert not found["place in the table"].is_hint


def test_a_property_that_is_the_same_everywhere_ranks_nothing() -> None:
    same = properties_of(np.full(N, 500), np.full(N, 500), BYTES)
    found = {one.name: one for one in shortcuts(RNG.random(N), same)}
    assert np.isnan(found["megapixels"].srcc)
    assert not found["megapixels"].is_hint


def test_share_explained_by_the_kind_is_that_of_an_analysis_of_variance() -> None:
    quality = RNG.random(N) + 0.3 * (np.array(KINDS) == "PNG")
    parts = [quality[np.array(KINDS) == kind] for kind in ("JPEG", "PNG")]
    f = f_oneway(*parts).statistic
    assert share_explained(quality, KINDS) == pytest.approx(f / (f + N - 2))
    assert share_explained(np.ones(N), KINDS) == 0


def test_a_forest_without_pixels() -> None:
    planted = np.array(KINDS) == "PNG"
    hidden = srcc_without_pixels(planted + RNG.normal(0, 0.2, N), PROPERTIES, KINDS, IDS)
    assert hidden is not None
    assert hidden > 0.7
    none = srcc_without_pixels(RNG.random(N), PROPERTIES, KINDS, IDS)
    assert none is not None
    assert abs(none) < 0.2
    alike = properties_of(np.full(N, 500), np.full(N, 500), BYTES)
    assert srcc_without_pixels(RNG.random(N), alike, ["PNG"] * N, IDS) is None
    assert srcc_without_pixels(RNG.random(N), PROPERTIES, KINDS, ["one"] * N) is None


def test_facts_of_a_file_and_of_none(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (30, 50, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"  # its name lies
    Image.fromarray(pixels).save(path, "PNG")
    facts = facts_of(str(path), DEFAULT_LIMITS)
    assert (facts.kind, facts.width_px, facts.height_px, facts.error) == ("PNG", 50, 30, "")
    assert facts.size_bytes == path.stat().st_size
    assert facts.perceptual_hash == hash_of(pixels)
    path.write_bytes(b"no image")
    assert facts_of(str(path), DEFAULT_LIMITS) == ImageFacts(error="not an image in a known format")
