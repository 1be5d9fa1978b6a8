"""The linear probe against leave-one-out by hand and against scikit-learn's own ridge regression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer

from grmp_core.errors import InputError
from grmp_core.evaluation.ridge import STRENGTHS, fit_ridge, probe_srcc, residual_ridge, ridge, scene_ridge


def problem(rows: int, features: int, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training features, targets and test features; features of very different sizes."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(size=features))
    train, test = (rng.normal(3, 1, (n, features)) * sizes for n in (rows, 7))
    weights = rng.normal(size=features) / sizes
    return train, train @ weights / np.sqrt(features) + noise * rng.normal(size=rows) + 50, test


def left_out_errors(train: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean squared error of every strength, each image predicted by a model that was fitted without it."""
    x = (train - train.mean(axis=0)) / train.std(axis=0)
    errors = []
    for strength in STRENGTHS:
        wrong = []
        for i in range(len(x)):
            rest = np.delete(np.arange(len(x)), i)
            model = Ridge(alpha=strength, solver="svd").fit(x[rest], target[rest])
            wrong.append(model.predict(x[i : i + 1])[0] - target[i])
        errors.append(np.mean(np.square(wrong)))
    return np.array(errors)


@pytest.mark.parametrize("noise", [0.05, 1.0])
@pytest.mark.parametrize(("rows", "features"), [(10, 60), (12, 192), (40, 8), (30, 30)])
def test_the_strength_is_the_best_of_exact_leave_one_out(rows: int, features: int, noise: float) -> None:
    train, target, _ = problem(rows, features, seed=rows + features, noise=noise)
    chosen = fit_ridge(train, target)[-1].alpha_
    errors = left_out_errors(train, target)
    assert errors[chosen == STRENGTHS][0] == pytest.approx(errors.min(), rel=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.integers(4, 15), st.integers(2, 40), st.integers(0, 1000))
def test_the_strength_is_the_best_whatever_the_shape(rows: int, features: int, seed: int) -> None:
    train, target, _ = problem(rows, features, seed)
    errors = left_out_errors(train, target)
    assert errors[fit_ridge(train, target)[-1].alpha_ == STRENGTHS][0] == pytest.approx(errors.min(), rel=1e-6)


@pytest.mark.parametrize(("rows", "features"), [(12, 40), (60, 5)])
def test_predictions_solve_the_regularized_normal_equations(rows: int, features: int) -> None:
    train, target, test = problem(rows, features, seed=2)
    x, y = ((part - train.mean(axis=0)) / train.std(axis=0) for part in (train, test))
    penalty = fit_ridge(train, target)[-1].alpha_ * np.eye(features)
    expected = y @ np.linalg.solve(x.T @ x + penalty, x.T @ (target - target.mean())) + target.mean()
    np.testing.assert_allclose(ridge(train, target, test), expected, rtol=1e-8)


def test_features_that_say_nothing_are_shrunk_away() -> None:
    """With more features than rows, too little strength fits noise: leave-one-out has to see that."""
    rng = np.random.default_rng(1)
    chosen = [fit_ridge(rng.normal(size=(10, 192)), rng.normal(size=10))[-1].alpha_ for _ in range(20)]
    assert np.median(chosen) > 1e3


def test_predictions_follow_the_units_and_ignore_shifts_of_the_features() -> None:
    train, target, test = problem(12, 30, seed=5)
    expected = ridge(train, target, test)
    np.testing.assert_allclose(ridge(train * 100 - 3, target, test * 100 - 3), expected, rtol=1e-7)
    np.testing.assert_allclose(ridge(train, target * 10 + 1, test), expected * 10 + 1, rtol=1e-7)


def test_a_constant_feature_takes_no_part() -> None:
    train, target, test = problem(12, 30, seed=6)
    with_constant = ridge(np.c_[train, np.full(12, 7.0)], target, np.c_[test, np.full(7, 9.0)])
    np.testing.assert_allclose(with_constant, ridge(train, target, test), rtol=1e-9)


def test_one_labelled_image_is_refused() -> None:
    with pytest.raises(InputError, match="leave-one-out needs 2"):
        ridge(np.ones((1, 3)), np.ones(1), np.ones((2, 3)))


def test_probe_ranks_unseen_images_by_a_feature_that_tells() -> None:
    rng = np.random.default_rng(3)
    quality = rng.random(200)
    ids = [f"photo{i}" for i in range(200)]
    features = np.stack([quality + 0.05 * rng.normal(size=200), rng.normal(size=200)], axis=1)
    values = probe_srcc(features, quality, ids, 30, num_splits=3)
    assert len(values) == 3
    assert values.min() > 0.9
    shuffled = probe_srcc(rng.normal(size=(200, 2)), quality, ids, 30, num_splits=3)
    assert abs(np.median(shuffled)) < 0.5


def test_weights_are_those_of_weighted_least_squares():
    """Constant features leave the weighted line alone; the ridge behind it is scikit-learn's with the same strength."""
    rng = np.random.default_rng(8)
    base, target, weight = rng.uniform(size=40), rng.uniform(size=40), rng.uniform(0.1, 3, 40)
    new = np.linspace(0, 1, 5)
    flat, flat_new = np.ones((40, 3)), np.ones((5, 3))
    slope, middle = np.polyfit(base, target, 1, w=np.sqrt(weight))
    found = residual_ridge(flat, base, target, flat_new, new, weight)
    np.testing.assert_allclose(found, slope * new + middle, atol=1e-10)
    features = rng.normal(size=(40, 3))
    fitted = fit_ridge(features, target, weight)
    scaled = fitted[0].transform(features)
    plain = Ridge(alpha=fitted[-1].alpha_).fit(scaled, target, sample_weight=weight)
    np.testing.assert_allclose(fitted.predict(features), plain.predict(scaled), rtol=1e-6)


def test_equal_weights_change_nothing():
    rng = np.random.default_rng(9)
    features, base, target = rng.normal(size=(30, 4)), rng.uniform(size=30), rng.uniform(size=30)
    given = (features[:20], base[:20], target[:20], features[20:], base[20:])
    np.testing.assert_allclose(residual_ridge(*given, np.ones(20)), residual_ridge(*given), rtol=1e-9)


def test_covariates_are_not_shrunk_and_features_are(monkeypatch):
    """Against the normal equations of the joint problem, at one strength."""
    monkeypatch.setattr("grmp_core.evaluation.ridge.STRENGTHS", [3.0])
    rng = np.random.default_rng(11)
    features, base, scenes = rng.normal(size=(30, 40)), rng.uniform(size=30), np.repeat(["beach", "night", "town"], 10)
    target, new, new_base = rng.normal(size=30) + (scenes == "night"), rng.normal(size=(7, 40)), rng.uniform(size=7)
    middle, spread = features.mean(axis=0), features.std(axis=0)
    x = np.column_stack([(features - middle) / spread, base, *(scenes == name for name in ("beach", "night", "town"))])
    solved = np.linalg.solve(x.T @ x + np.diag([3.0] * 40 + [0.0] * 4), x.T @ target)
    expected = (new - middle) / spread @ solved[:40] + solved[40] * new_base + solved[41:].mean()
    np.testing.assert_allclose(scene_ridge(features, base, target, scenes, new, new_base), expected, atol=1e-8)
    shifted = scene_ridge(features, base, target + 100 * (scenes == "beach"), scenes, new, new_base)
    np.testing.assert_allclose(shifted, expected + 100 / 3, atol=1e-6)  # a scene's own level moves no order


def test_features_that_say_nothing_are_shrunk_away_beside_scenes_too():
    """Pairs of a scene: what is left of one is the other's with the sign turned, which fools a plain leave-one-out."""
    rng = np.random.default_rng(13)
    scenes, base = np.repeat(np.arange(15), 2), rng.normal(size=30)
    given = rng.normal(size=(30, 200)), base, base + rng.normal(size=30), scenes
    found = scene_ridge(*given, rng.normal(size=(50, 200)), np.zeros(50))
    assert found.std() < 0.5  # noise of deviation 1, followed closely, would give about 1


def test_labels_that_the_scenes_use_up_are_refused():
    with pytest.raises(InputError, match="4 labelled images of 3 scenes leave nothing"):
        scene_ridge(np.ones((4, 2)), np.arange(4.0), np.arange(4.0), list("abbc"), np.ones((1, 2)), np.ones(1))


def test_a_scene_that_goes_with_quality_misleads_ridge_and_not_its_covariate():
    """A feature tells the scene alone: the good pictures are of one scene where they have labels, of both elsewhere."""
    rng = np.random.default_rng(12)
    good = np.repeat([1.0, 0.0], 40)
    damage = rng.normal(size=80) + 5 * good
    features = np.stack([5 * good + 0.1 * rng.normal(size=80), damage + rng.normal(size=80)], axis=1)
    scene, quality = rng.integers(2, size=200), rng.normal(size=200)
    new = np.stack([5 * scene + 0.1 * rng.normal(size=200), quality + rng.normal(size=200)], axis=1)
    flat, new_flat = np.zeros(80), np.zeros(200)
    plain = stats.spearmanr(residual_ridge(features, flat, damage, new, new_flat), quality).statistic
    known = stats.spearmanr(scene_ridge(features, flat, damage, good, new, new_flat), quality).statistic
    assert known > plain + 0.1


def test_a_label_of_weight_two_counts_beside_scenes_as_two_labels_do(monkeypatch):
    """At one strength, and with features that are standardized alike in both."""
    monkeypatch.setattr("grmp_core.evaluation.ridge.STRENGTHS", [3.0])
    monkeypatch.setattr("grmp_core.evaluation.ridge.StandardScaler", lambda: FunctionTransformer())
    rng = np.random.default_rng(14)
    features, base, scenes = rng.normal(size=(20, 6)), rng.uniform(size=20), np.repeat([0, 1], 10)
    target, new, new_base = rng.normal(size=20), rng.normal(size=(5, 6)), rng.uniform(size=5)
    twice = np.r_[np.arange(20), 3, 12]  # one of each scene, so that their mean effect stays
    weight = np.bincount(twice).astype(float)
    weighted = scene_ridge(features, base, target, scenes, new, new_base, weight)
    doubled = scene_ridge(features[twice], base[twice], target[twice], scenes[twice], new, new_base)
    np.testing.assert_allclose(weighted, doubled, atol=1e-9)
