"""Planting damage and teaching by it: geometry by brute force, and a network that has to learn what is plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from grmp_core.explain.place_fit import (
    NEAR_PX,
    Versions,
    calibrated,
    damaged_shares,
    fit_calibration,
    fit_network,
    planted,
    rectangle,
)
from grmp_core.explain.quality_map import crop_corners
from grmp_core.explain.settings import MapConfig
from grmp_core.procedural import scenes

SIZE = 16


@given(height=st.integers(16, 60), width=st.integers(16, 60), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_rectangle_lies_inside_and_has_its_size(height: int, width: int, seed: int):
    for along, side in zip(rectangle((height, width, 3), np.random.default_rng(seed)), (height, width), strict=True):
        assert 0 <= along.start < along.stop <= side
        assert int(0.35 * side) <= along.stop - along.start <= 0.65 * side


def test_share_of_a_crop_is_that_of_pixels_near_a_changed_one():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (96, 128, 3), np.uint8)
    version, part = photo.copy(), (slice(20, 90), slice(30, 110))
    changed = [(25, 40), (80, 100), (81, 35)]
    for row, column in changed:
        version[row, column, 1] ^= 1
    corners = crop_corners((96, 128), SIZE, MapConfig())
    rows, columns = np.mgrid[:96, :128]
    near = np.zeros((96, 128), bool)
    for row, column in changed:
        near |= (abs(rows - row) <= NEAR_PX) & (abs(columns - column) <= NEAR_PX)
    near &= (rows >= 20) & (rows < 90) & (columns >= 30) & (columns < 110)
    expected = [near[top : top + SIZE, left : left + SIZE].mean() for top, left in corners]
    np.testing.assert_allclose(damaged_shares(photo, version, part, corners, SIZE), expected)
    assert not damaged_shares(photo, photo, part, corners, SIZE).any()


def test_versions_differ_from_the_photo_in_their_part_only():
    photo = scenes.reference(1, 64, 80)
    versions = list(planted(photo, 7, also_whole=True))
    assert len(versions) == 4
    for damaged, part in versions:
        outside = np.ones(photo.shape[:2], bool)
        outside[part] = False
        assert np.array_equal(damaged[outside], photo[outside])
        assert not np.array_equal(damaged, photo)
    assert not outside.any(), "the last version is damaged all over"
    again = [damaged for damaged, _ in planted(photo, 7, also_whole=False)]
    assert all(np.array_equal(a, b) for a, (b, _) in zip(again, versions, strict=False))


def test_network_learns_which_crop_differs_from_the_others():
    """The level of a photo says nothing, the difference of a crop from the others everything."""
    rng = np.random.default_rng(0)
    photos, crops, tokens, pixels = 600, 6, 4, 3
    seen = rng.normal(size=(photos, 1, tokens + pixels + 2)) + 0.1 * rng.normal(
        size=(photos, crops, tokens + pixels + 2)
    )
    damaged = np.zeros((photos, crops))
    damaged[np.arange(photos), rng.integers(crops, size=photos)] = 1
    seen[..., :tokens] += 2 * damaged[..., None]
    taught = Versions(seen_VCF=seen[:500].astype(np.float16), damaged_VC=damaged[:500], num_of_tokens=tokens)
    network = fit_network(taught, epochs=6, batch=25)
    same = fit_network(taught, epochs=6, batch=25)
    with torch.inference_mode():
        logits = network(torch.from_numpy(seen[500:]))
        assert torch.equal(logits, same(torch.from_numpy(seen[500:])))
    assert np.mean(logits.argmax(dim=1).numpy() == damaged[500:].argmax(axis=1)) > 0.95


def test_calibration_is_found_again_where_half_of_the_photos_are_undamaged():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, (8000, 1)) + rng.normal(0, 1, (8000, 3))
    damaged = (rng.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(float)
    is_damaged = damaged.any(axis=1)
    temperature, bias = fit_calibration(2.5 * (odds + 1), damaged)
    weights = np.where(is_damaged, 0.5 / is_damaged.sum(), 0.5 / (~is_damaged).sum())
    model = LogisticRegression(C=1e9)  # the same loss by scikit-learn, each crop twice: once for each outcome
    both, outcome = np.tile(2.5 * (odds.ravel() + 1), 2)[:, None], np.repeat([1, 0], odds.size)
    share = np.concatenate([damaged.ravel(), 1 - damaged.ravel()]) * np.tile(np.repeat(weights, 3), 2)
    model.fit(both, outcome, sample_weight=share * len(share))
    assert 1 / temperature == pytest.approx(model.coef_[0, 0], rel=0.01)
    assert bias == pytest.approx(model.intercept_[0], abs=0.01)


def test_what_is_calibrated_is_the_network_as_it_is_read_again():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(80, 6, 9)).astype(np.float16)
    damaged = np.repeat(rng.random((80, 1)) < 0.5, 6, axis=1).astype(float)
    versions = Versions(seen_VCF=seen, damaged_VC=damaged, num_of_tokens=4)
    detector = calibrated(fit_network(versions, epochs=1, batch=20), versions, "00" * 32)
    with torch.inference_mode():
        logits = detector.network(torch.from_numpy(seen)).double().numpy()
    assert (detector.temperature, detector.bias) == pytest.approx(fit_calibration(logits, damaged), abs=1e-4)
    for parameter in detector.network.parameters():
        assert torch.equal(parameter, parameter.half().float())
