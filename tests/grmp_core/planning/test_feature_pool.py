"""The pool of images: its numbers by chunks against those in one go."""

from __future__ import annotations

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.planning import feature_pool
from grmp_core.planning.feature_pool import FeaturePool


def test_chunks_of_a_file_in_any_order_give_what_the_whole_array_gives(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature_pool, "_CHUNK_ROWS", 7)
    rng = np.random.default_rng(0)
    stored = np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float16, (50, 20))
    stored[:] = rng.normal(3, 2, (50, 20)) * np.arange(1, 21)
    stored[:, 4] = 0.1  # a constant feature
    rows = rng.permutation(50)[:40]
    pool = FeaturePool(stored, rows, rng.random(40))
    features = stored[rows].astype(float)
    std = features.std(axis=0)
    std[4] = 1
    standardized = (features - features.mean(axis=0)) / std
    assert pool.products(np.array([3, 8])) == pytest.approx(standardized @ standardized[[3, 8]].T, abs=1e-3)
    assert pool.gram(np.array([3, 8])) == pytest.approx(standardized[[3, 8]] @ standardized[[3, 8]].T, abs=1e-9)
    left, singular, _ = np.linalg.svd(standardized, full_matrices=False)
    expected = np.abs(left * singular)[:, : feature_pool.COMPONENTS]
    assert np.abs(pool.points) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("features", "base"),
    [(np.ones((2, 3)), np.ones(3)), (np.ones((0, 3)), np.ones(0)), (np.full((2, 3), np.nan), np.ones(2))],
)
def test_bad_pools(features: np.ndarray, base: np.ndarray):
    with pytest.raises(InputError):
        FeaturePool.of(features, base)
