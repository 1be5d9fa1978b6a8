from __future__ import annotations

import cv2
import numpy as np

from grmp_core.nano.groups import (
    HELD_OUT_SHARE,
    MAX_DIFFERENT_BITS,
    different_bits,
    group_numbers,
    held_out,
    perceptual_hash,
    standardized,
)


def _picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)


def test_a_hash_survives_compression_and_shrinking_but_not_another_picture():
    picture = _picture(0)
    compressed = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    versions = [picture, compressed, cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA), _picture(1)]
    hashes = np.array([perceptual_hash(version) for version in versions])
    bits = different_bits(hashes[:1], hashes)[0]
    assert max(bits[:3]) <= MAX_DIFFERENT_BITS
    assert bits[3] > MAX_DIFFERENT_BITS


def test_different_bits_counts_them():
    assert different_bits(np.array([0b1011], np.uint64), np.array([0b0010, 0b1011], np.uint64)).tolist() == [[2, 0]]


def test_groups_are_what_neighbours_connect():
    hashes = np.array([0, 0b11111, 0b1111111111, 2**63 - 1, 2**40 - 1], np.uint64)  # five bits from one to the next
    features = np.eye(5, dtype=np.float32)
    features[4] = features[3]  # far by hash, the same by features
    groups = group_numbers(hashes, features, block=2)
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert groups[0] != groups[3]


def test_whole_groups_are_held_out_by_content_in_any_order():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 1000)
    digests = [f"{value:08x}" + "0" * 56 for value in rng.integers(0, 2**32, 1000)]
    kept = held_out(groups, digests)
    for group in range(400):
        assert len(set(kept[groups == group])) <= 1
    order = rng.permutation(1000)
    np.testing.assert_array_equal(held_out(groups[order], [digests[i] for i in order]), kept[order])
    expected = len(set(groups.tolist())) / HELD_OUT_SHARE
    assert abs(len(set(groups[kept].tolist())) - expected) < 5 * np.sqrt(expected)


def test_standardized_features_are_unit_vectors_on_a_common_scale():
    features = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    found = standardized(features, features.mean(axis=0), features.std(axis=0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
