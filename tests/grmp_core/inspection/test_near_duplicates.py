"""Near-duplicates against comparing all pairs, and leaks from the embedded backbone's training photos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.inspection import near_duplicates
from grmp_core.inspection.leaks import leaked, training_hashes
from grmp_core.inspection.near_duplicates import groups_of, hash_of, near_groups, near_pairs, nearest
from grmp_core.nano.groups import different_bits, perceptual_hash
from grmp_core.procedural import scenes


@given(st.integers(0, 2**32 - 1), st.integers(0, 8), st.integers(1, 40))
def test_pairs_are_those_of_comparing_all(seed: int, max_bits: int, count: int) -> None:
    """Random hashes, with neighbours of some of them at every distance."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for row in range(1, count):
        if rng.random() < 0.6:
            flips = rng.choice(64, int(rng.integers(0, 12)), replace=False)
            hashes[row] = hashes[rng.integers(row)] ^ np.bitwise_or.reduce(
                np.uint64(1) << flips.astype(np.uint64), initial=0
            )
    i, j = np.nonzero(different_bits(hashes, hashes) <= max_bits)
    expected = [(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if a < b]
    assert list(map(tuple, near_pairs(hashes, max_bits).tolist())) == expected
    repeated = np.concatenate([hashes, hashes[::2]])
    i, j = np.nonzero(different_bits(repeated, repeated) <= max_bits)
    every_pair = np.stack([i, j], axis=1)[i < j]
    assert near_groups(repeated, max_bits) == groups_of(every_pair, len(repeated))


def test_groups_are_what_pairs_connect() -> None:
    assert groups_of(np.array([[1, 4], [4, 6], [2, 3]]), 8) == [[1, 4, 6], [2, 3]]
    assert groups_of(np.empty((0, 2), np.int64), 3) == []


def test_no_photos_have_no_pairs() -> None:
    assert near_pairs(np.empty(0, np.uint64)).shape == (0, 2)
    assert near_groups(np.empty(0, np.uint64)) == []


def test_distance_to_the_nearest_known() -> None:
    known = np.array([0b1111, 0], dtype=np.uint64)
    assert nearest(np.array([0b0111, 0b1, 0], dtype=np.uint64), known).tolist() == [1, 1, 0]
    assert nearest(known, np.empty(0, np.uint64)).tolist() == [64, 64]


def test_a_copy_that_is_smaller_compressed_and_brighter_is_a_near_duplicate() -> None:
    photos = [scenes.reference(k, 240, 320) for k in range(12)]
    copies = []
    for photo in photos:
        small = cv2.resize(photo, (200, 150), interpolation=cv2.INTER_AREA)
        encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        copies.append(np.clip(cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(int) + 12, 0, 255).astype(np.uint8))
    hashes = np.array([hash_of(image) for image in (*photos, *copies)], dtype=np.uint64)
    found = set(map(tuple, near_pairs(hashes).tolist()))
    assert {(k, k + 12) for k in range(12)} <= found
    assert leaked(hashes[12:], hashes[:12]).all()


def test_a_very_large_photo_is_hashed_by_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = scenes.reference(3, 480, 640)
    monkeypatch.setattr(near_duplicates, "_HASHED_PX", 20_000)
    assert different_bits(np.array([hash_of(photo)], np.uint64), np.array([perceptual_hash(photo)])).item() <= 2


def test_the_embedded_backbone_knows_its_training_photos() -> None:
    hashes = training_hashes("grmp-nano")
    assert hashes is not None
    assert (hashes.dtype, hashes.shape) == (np.uint64, (9777,))
    assert leaked(hashes[1::1000], hashes).all()
    flat = np.array([hash_of(np.full((40, 50, 3), grey, np.uint8)) for grey in (0, 128, 255)], np.uint64)
    assert not leaked(flat, np.concatenate([hashes, flat])).any()
    assert not leaked(np.array([hash_of(scenes.reference(k)) for k in range(20)], np.uint64), hashes).any()
    assert training_hashes("ViT-B-16-quickgelu") is None
    assert training_hashes("grmp-nano", "other/weights.safetensors") is None
