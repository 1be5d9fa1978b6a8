"""Which images come next: properties that hold for every rule, and small pools where the answer is known."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from grmp_core.errors import InputError
from grmp_core.planning import selection
from grmp_core.planning.dual_ridge import dual_residual_ridge
from grmp_core.planning.feature_pool import FeaturePool
from grmp_core.planning.selection import LEVELS, Labelled, select_next
from grmp_core.planning.settings import RULES, Rule

NONE = Labelled(np.array([], dtype=int), np.array([]))


def pool_of(count: int, seed: int = 0, features: int = 6) -> FeaturePool:
    rng = np.random.default_rng(seed)
    return FeaturePool.of(rng.normal(size=(count, features)).astype(np.float16), rng.random(count))


@given(
    rule=st.sampled_from(RULES),
    count=st.integers(1, 40),
    labelled=st.integers(0, 30),
    wanted=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_picks_are_free_images_once_each_and_the_same_every_time(
    rule: Rule, count: int, labelled: int, wanted: int, seed: int
):
    pool = pool_of(count, seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    rows, excluded = order[: min(labelled, count)], order[min(labelled, count) :][:2]
    known = Labelled(rows, rng.random(len(rows)))
    picked = select_next(pool, known, wanted, rule=rule, seed=seed, excluded=excluded.tolist())
    assert len(picked) == len(set(picked.tolist())) == min(wanted, count - len(rows) - len(excluded))
    assert not set(picked.tolist()) & {*rows.tolist(), *excluded.tolist()}
    assert (
        picked.tolist() == select_next(pool, known, wanted, rule=rule, seed=seed, excluded=excluded.tolist()).tolist()
    )


def test_coverage_is_greedy_k_centre():
    pool = pool_of(60, features=5)  # fewer features than components, so distances are those of standardized features
    features = pool.stored_SD.astype(float)
    points = (features - features.mean(axis=0)) / features.std(axis=0)
    chosen = [7, 20]
    for _ in range(6):
        nearest = ((points[:, None] - points[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int(nearest.argmax()))
    known = Labelled(np.array([7, 20]), np.array([1.0, 2.0]))
    assert select_next(pool, known, 6, rule="coverage").tolist() == chosen[2:]


def test_coverage_takes_one_image_of_every_cluster_and_begins_in_the_middle():
    centres = np.array([[0, 0], [40, 0], [0, 40], [-40, 0], [0, -40]])
    features = np.repeat(centres, 20, axis=0) + np.random.default_rng(1).normal(size=(100, 2))
    picked = select_next(FeaturePool.of(features, np.zeros(100)), NONE, 5, rule="coverage")
    assert picked[0] // 20 == 0
    assert sorted(picked // 20) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rule", ["spread", "combined"])
def test_spread_fills_the_levels_of_predicted_quality_evenly(rule: Rule):
    pool = FeaturePool.of(np.random.default_rng(2).normal(size=(200, 4)), np.linspace(0, 1, 200) ** 5)
    best = Labelled(np.arange(197, 200), np.ones(3))
    picked = select_next(pool, best, 3 * LEVELS - 3, rule=rule)
    assert np.bincount(np.append(picked, best.rows_L) // (200 // LEVELS)).tolist() == [3] * LEVELS


def test_disagreement_multiplies_the_distance_by_the_variance_of_the_ensemble(monkeypatch: pytest.MonkeyPatch):
    pool = pool_of(50)
    known = Labelled(np.arange(12), np.linspace(0, 1, 12))
    predicted = np.zeros((3, 50))
    predicted[1, 30:34] = [1, 2, 3, 4]
    monkeypatch.setattr(selection, "_predictions", lambda *_: predicted)
    points = pool.points.astype(float)
    nearest = ((points[:, None] - points[:12]) ** 2).sum(axis=2).min(axis=1)
    assert select_next(pool, known, 1, rule="disagreement") == [np.argmax(nearest * predicted[1:].var(axis=0))]
    assert set(select_next(pool, known, 4, rule="disagreement").tolist()) == {30, 31, 32, 33}


def test_an_ensemble_of_models_is_there_from_ten_labels_on():
    pool, rng = pool_of(50), np.random.default_rng(0)
    for count, models in ((9, 1), (10, 1 + selection.MODELS)):
        known = Labelled(np.arange(count), rng.random(count))
        predicted = selection._predictions(pool, known, rng)
        assert predicted.shape == (models, 50)
    features = (pool.stored_SD - pool.stored_SD.astype(float).mean(axis=0)) / pool.stored_SD.astype(float).std(axis=0)
    products = features @ features[:10].T
    alone = dual_residual_ridge(products[:10], pool.base_N[:10], known.labels_L, products, pool.base_N)
    assert predicted[0] == pytest.approx(alone, abs=1e-4)


def test_bad_labels_and_rules():
    with pytest.raises(InputError, match="one label"):
        Labelled(np.array([1, 1]), np.array([2.0, 3.0]))
    with pytest.raises(InputError, match="not finite"):
        Labelled(np.array([1]), np.array([np.nan]))
    with pytest.raises(InputError, match="rule 'best'"):
        select_next(pool_of(5), NONE, 1, rule="best")  # type: ignore[arg-type]
