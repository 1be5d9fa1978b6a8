"""Images far from everything known are told, in proportion to the share that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grmp_core.confidence.domain import Domain, Space
from grmp_core.confidence.domain_fit import PENALTY, fit_domain, made_direction
from grmp_core.confidence.evidence import MAX_STATISTICS, Evidence
from grmp_core.confidence.unlike import Likeness, _KnownPlaces, _shifts
from grmp_core.errors import InputError
from grmp_core.evaluation.drift import drift_of

EARLY, LATE = 40, 60
SHA = "ab" * 32


def looks(rng: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    """Statistics with a few strong directions, float64 (count, EARLY + LATE)."""
    mixing = np.random.default_rng(5).normal(size=(12, EARLY + LATE))
    return (rng.normal(size=(count, 12)) + shift) @ mixing + 0.05 * rng.normal(size=(count, EARLY + LATE))


def evidence(statistics_NF: np.ndarray, groups: list[str] | None = None) -> Evidence:
    some = np.full(len(statistics_NF), 0.5)
    names = tuple(groups or map(str, range(len(some))))
    return Evidence.of(some, some, statistics_NF, names, early_size=EARLY, deep=True)


def pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    """Statistics that differ from those of photos in a few early ones, all in the same way."""
    found = looks(rng, count)
    found[:, :4] += 3.0
    return found


@pytest.fixture(scope="module")
def domain() -> Domain:
    rng = np.random.default_rng(0)
    return fit_domain(looks(rng, 300), looks(rng, 200), pictures(rng, 200), EARLY, SHA)


def test_whitened_coordinates_are_uncorrelated_with_variance_one():
    found = looks(np.random.default_rng(0), 400)[:, :EARLY]
    coordinates = Space.whitened(found, 10)(found)
    np.testing.assert_allclose(np.cov(coordinates.T, bias=True), np.eye(10), atol=1e-8)
    flat = np.repeat(found[:, :1], 5, axis=1)  # one direction, whatever is asked for
    assert Space.whitened(flat, 4)(flat).shape == (400, 1)


def test_held_out_distances_are_those_of_scipy(domain: Domain):
    rng = np.random.default_rng(0)
    references, held_out = looks(rng, 300), looks(rng, 200)
    points = domain.spaces[0](references[:, :EARLY])
    expected = cdist(domain.spaces[0](held_out[:, :EARLY]), points).min(axis=1)
    np.testing.assert_allclose(domain.held_out_HS[:, 0], expected, rtol=2e-3)


def test_a_domain_is_read_as_it_was_written(domain: Domain):
    again = Domain.from_bytes(domain.to_bytes())
    assert again.weights_sha256 == SHA
    found = looks(np.random.default_rng(9), 50)
    given = evidence(found)
    before, after = (
        Likeness(given, each, 0.05).excess(looks(np.random.default_rng(8), 30)) for each in (domain, again)
    )
    np.testing.assert_allclose(before, after, atol=0.02)


@pytest.mark.parametrize("with_domain", [True, False])
def test_like_images_are_seldom_unlike_and_far_ones_always(domain: Domain, with_domain: bool):
    rng = np.random.default_rng(3)
    rates = []
    for _ in range(20):
        likeness = Likeness(evidence(looks(rng, 50)), domain if with_domain else None, 0.05)
        rates.append(np.mean(likeness.excess(looks(rng, 100)) > 0))
        assert (likeness.excess(looks(rng, 20, shift=15.0)) > 0).all()
    assert np.mean(rates) <= 0.06


def test_photos_of_training_are_moved_to_where_the_labelled_images_lie(domain: Domain):
    rng = np.random.default_rng(4)
    likeness = Likeness(evidence(looks(rng, 10, shift=15.0)), domain, 0.05)
    assert np.mean(likeness.excess(looks(rng, 200, shift=15.0)) > 0) <= 0.1
    assert np.mean(likeness.excess(looks(rng, 200)) > 0) >= 0.9


def test_the_direction_of_pictures_is_the_decision_function_of_scikit_learn():
    rng = np.random.default_rng(20)
    photos, made, new = looks(rng, 200), pictures(rng, 50), looks(rng, 30)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=3000))
    model.fit(np.concatenate([photos, made]), np.repeat([0, 1], (200, 50)))
    found = made_direction(photos, made)(new)
    assert found.shape == (30, 1)
    np.testing.assert_allclose(np.ptp(model.decision_function(new) - found[:, 0]), 0, atol=1e-9)


def test_pictures_are_unlike_photos_but_not_where_pictures_are_labelled(domain: Domain):
    """Nor does it matter how far the labelled photos lie from each other in what they show."""
    rng = np.random.default_rng(21)
    scattered = looks(rng, 30)
    scattered[:, EARLY:] += looks(rng, 30)[:, EARLY:] * rng.uniform(0, 4, (30, 1))
    for labelled in (looks(rng, 30), scattered):
        likeness = Likeness(evidence(labelled), domain, 0.05)
        assert np.mean(likeness.excess(pictures(rng, 200)) > 0) >= 0.95
        assert np.mean(likeness.excess(looks(rng, 200)) > 0) <= 0.12
    of_pictures = Likeness(evidence(pictures(rng, 30)), domain, 0.05)
    assert np.mean(of_pictures.excess(pictures(rng, 200)) > 0) <= 0.12


def test_a_shift_is_that_of_james_and_stein():
    rng = np.random.default_rng(12)
    points_MK, centre_K = rng.normal(size=(30, 6)) + 0.5, np.full(6, 0.1)
    for chosen in (points_MK, points_MK[:7]):
        mean_K = chosen.mean(axis=0)
        error = (chosen.std(axis=0, ddof=1) ** 2 / len(chosen)).sum()
        expected = (mean_K - centre_K) * max(0, 1 - error / ((mean_K - centre_K) ** 2).sum())
        given = np.arange(30)[None] < len(chosen)
        np.testing.assert_allclose(_shifts(points_MK, given, centre_K)[0], expected, rtol=1e-9)
    nowhere = points_MK - points_MK.mean(axis=0) + centre_K
    np.testing.assert_array_equal(_shifts(nowhere, np.ones((1, 30), dtype=bool), centre_K), 0)
    np.testing.assert_array_equal(_shifts(points_MK, np.arange(30)[None] < 1, centre_K), 0)


@pytest.mark.parametrize("copies", [1, 2, 9])
def test_the_shift_counts_each_scene_once_however_many_images_it_has(copies):
    """Distances of new images and of the labelled ones themselves, from the shifts of the scenes' means."""
    rng = np.random.default_rng(13)
    scenes_GK, shipped_RK, new_NK = rng.normal(size=(8, 6)) + 1, rng.normal(size=(50, 6)), rng.normal(size=(20, 6))
    group_M = np.repeat(np.arange(8), np.where(np.arange(8) == 3, copies, 1))
    noise_MK = 0.1 * rng.normal(size=(len(group_M), 6))
    points_MK = scenes_GK[group_M] + noise_MK
    means_GK = np.stack([points_MK[group_M == group].mean(axis=0) for group in range(8)])
    centre_K = shipped_RK.mean(axis=0)

    def shift(means: np.ndarray) -> np.ndarray:
        moved = means.mean(axis=0) - centre_K
        error = (stats.sem(means, axis=0) ** 2).sum()
        return moved * max(0, 1 - error / (moved**2).sum())

    places = _KnownPlaces(points_MK, group_M.astype(str), shipped_RK)
    near_N = np.minimum(cdist(new_NK, points_MK).min(axis=1), cdist(new_NK - shift(means_GK), shipped_RK).min(axis=1))
    np.testing.assert_allclose(places.distance(new_NK), near_N, rtol=1e-9)
    for image, group in enumerate(group_M):
        here = points_MK[image : image + 1]
        others = cdist(here, points_MK[group_M != group]).min()
        photos = cdist(here - shift(np.delete(means_GK, group, axis=0)), shipped_RK).min()
        assert places.labelled_M[image] == pytest.approx(min(others, photos), rel=1e-9)


def test_images_of_one_scene_shift_nothing():
    rng = np.random.default_rng(14)
    points_MK, shipped_RK = rng.normal(size=(9, 6)) + 5, rng.normal(size=(50, 6))
    places = _KnownPlaces(points_MK, np.full(9, "a"), shipped_RK)
    np.testing.assert_allclose(places.labelled_M, cdist(points_MK, shipped_RK).min(axis=1), rtol=1e-9)
    np.testing.assert_allclose(places.distance(shipped_RK), 0, atol=1e-9)


def test_images_of_one_reference_do_not_vouch_for_each_other():
    rng = np.random.default_rng(6)
    scenes = looks(rng, 30)
    twice = np.concatenate([scenes, scenes + 1e-3])
    told_apart = Likeness(evidence(twice, [str(i % 30) for i in range(60)]), None, 0.05)
    taken_alone = Likeness(evidence(twice), None, 0.05)
    new = looks(rng, 100)
    assert np.mean(told_apart.excess(new) > 0) <= 0.2 < np.mean(taken_alone.excess(new) > 0)


def test_a_larger_share_marks_more():
    rng = np.random.default_rng(7)
    given, new = evidence(looks(rng, 100)), looks(rng, 300)
    marked = [int((Likeness(given, None, share).excess(new) > 0).sum()) for share in (0.02, 0.1, 0.5)]
    assert marked[0] < marked[1] < marked[2]


def test_distances_are_the_closed_form_of_scipy_s_and_do_not_depend_on_the_share():
    """Without a domain: standardized statistics, nearest labelled image of each space, median 0 and 95 % quantile 1 of
    what the labelled images have among themselves."""
    rng = np.random.default_rng(10)
    labelled, new = looks(rng, 40), looks(rng, 25)
    given = evidence(labelled)
    kept = given.statistics_MF.astype(np.float64)
    own, found = [], []
    for part in (slice(0, EARLY), slice(EARLY, None)):
        mean, spread = kept[:, part].mean(axis=0), kept[:, part].std(axis=0)
        points, others = ((of[:, part] - mean) / spread for of in (kept, new))
        among = cdist(points, points)
        np.fill_diagonal(among, np.inf)
        own.append(among.min(axis=1))
        found.append(cdist(others, points).min(axis=1))
    middle, end = np.median(own, axis=1)[:, None], np.quantile(own, 0.95, axis=1)[:, None]
    for share in (0.02, 0.05, 0.3):
        likeness = Likeness(given, None, share)
        np.testing.assert_allclose(likeness.distance(new), ((found - middle) / (end - middle)).max(axis=0), rtol=1e-6)
        expected = np.sort(((np.array(own) - middle) / (end - middle)).max(axis=0))
        np.testing.assert_allclose(likeness.labelled_distances, expected, rtol=1e-6)


@pytest.mark.parametrize("with_domain", [True, False])
def test_distances_of_like_images_drift_seldom_from_those_of_the_labelled_ones(domain: Domain, with_domain: bool):
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(20):
        likeness = Likeness(evidence(looks(rng, 100)), domain if with_domain else None, 0.05)
        alarms += drift_of(likeness.distance(looks(rng, 200)), likeness.labelled_distances).exceeds(0.1)
        assert drift_of(likeness.distance(looks(rng, 50, shift=5.0)), likeness.labelled_distances).exceeds(0.1)
    assert alarms <= 2


def test_one_reference_alone_tells_nothing():
    assert not Likeness(evidence(looks(np.random.default_rng(0), 5), ["a"] * 5), None, 0.05).known


def test_evidence_is_read_as_it_was_written_and_keeps_a_part_of_many_images():
    given = evidence(looks(np.random.default_rng(0), MAX_STATISTICS + 100))
    again = Evidence.from_bytes(given.to_bytes(), "here")
    for name in ("predicted_N", "quality_N", "statistics_MF", "groups_M", "early_size", "deep"):
        np.testing.assert_array_equal(getattr(again, name), getattr(given, name))
    assert len(again.predicted_N) == MAX_STATISTICS + 100
    assert len(again.statistics_MF) == len(set(again.groups_M.tolist())) == MAX_STATISTICS
    with pytest.raises(InputError, match="here is damaged"):
        Evidence.from_bytes(given.to_bytes()[:-9], "here")
