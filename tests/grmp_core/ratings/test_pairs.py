"""Bradley and Terry's model against the package choix, with ties against closed forms and a simulation."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from scipy.optimize import check_grad

from grmp_core.errors import InputError
from grmp_core.ratings.pairs import PairVotes, _posterior, fit_pairs, pairs_of, scale_to_grades
from tests.grmp_core.ratings.votes import grade, pair


def drawn(strength_I: np.ndarray, tie: float, count: int, seed: int) -> PairVotes:
    """Pairs answered as Davidson's model says."""
    rng = np.random.default_rng(seed)
    left_P = rng.integers(len(strength_I), size=count)
    right_P = (left_P + rng.integers(1, len(strength_I), size=count)) % len(strength_I)
    gap_P = strength_I[left_P] - strength_I[right_P]
    weight_P3 = np.stack([np.exp(-gap_P / 2), np.full(count, tie), np.exp(gap_P / 2)], axis=1)
    edges_P3 = np.cumsum(weight_P3 / weight_P3.sum(axis=1, keepdims=True), axis=1)
    outcome_P = (rng.random(count)[:, None] > edges_P3).sum(axis=1) - 1
    images = tuple(f"i{i}" for i in range(len(strength_I)))
    return PairVotes(images=images, left_P=left_P, right_P=right_P, outcome_P=outcome_P)


def test_without_ties_it_is_what_choix_finds():
    pairs = drawn(np.linspace(-1.5, 1.5, 8), 0.0, 200, seed=0)
    won = [
        (left, right) if outcome > 0 else (right, left)
        for left, right, outcome in zip(pairs.left_P, pairs.right_P, pairs.outcome_P, strict=True)
    ]
    for prior_sd in (3.0, 0.7):
        expected_I = choix.opt_pairwise(8, won, alpha=prior_sd**-2 / 2, method="Newton-CG", tol=1e-10)
        found = fit_pairs(pairs, prior_sd=prior_sd)
        np.testing.assert_allclose(found.strength_I, expected_I - np.mean(expected_I), atol=1e-4)
        assert found.tie == 0


def test_two_images_have_the_closed_form():
    """w wins, l losses and t ties of two images: strengths apart by log(w/l), nu = t / sqrt(w l)."""
    votes = [pair("a", "b", "left")] * 60 + [pair("b", "a", "left")] * 15 + [pair("a", "b", "same")] * 30
    found = fit_pairs(pairs_of(votes), prior_sd=1e4)
    assert found.strength_I[0] - found.strength_I[1] == pytest.approx(np.log(60 / 15), abs=1e-5)
    assert found.tie == pytest.approx(30 / np.sqrt(60 * 15), abs=1e-5)
    assert list(found.votes_I) == [105, 105]


def test_strengths_and_ties_come_back_within_their_errors():
    strength_I = np.array([-1.0, -0.5, 0.0, 0.2, 1.3])
    found = fit_pairs(drawn(strength_I, 0.8, 6000, seed=1))
    assert found.tie == pytest.approx(0.8, abs=0.06)
    assert np.all(np.abs(found.strength_I - strength_I) < 3.5 * found.stderr_I)


def test_standard_errors_are_those_of_a_simulation():
    strength_I = np.array([-1.0, 0.0, 0.3, 0.7])
    fits = [fit_pairs(drawn(strength_I, 0.5, 300, seed)) for seed in range(60)]
    spread_I = np.std([fit.strength_I for fit in fits], axis=0)
    np.testing.assert_allclose(np.mean([fit.stderr_I for fit in fits], axis=0), spread_I, rtol=0.3)


@pytest.mark.parametrize("has_ties", [True, False])
def test_derivatives_are_those_of_finite_differences(has_ties: bool):
    pairs = drawn(np.linspace(-1, 1, 5), 0.6 if has_ties else 0.0, 80, seed=2)
    x = np.random.default_rng(3).normal(size=5 + has_ties)
    assert (
        check_grad(
            lambda x: _posterior(x, pairs, 2.0, has_ties)[0], lambda x: _posterior(x, pairs, 2.0, has_ties)[1], x
        )
        < 1e-5
    )
    columns = [
        (_posterior(x + step, pairs, 2.0, has_ties)[1] - _posterior(x - step, pairs, 2.0, has_ties)[1]) / 2e-6
        for step in 1e-6 * np.eye(len(x))
    ]
    np.testing.assert_allclose(_posterior(x, pairs, 2.0, has_ties)[2], np.array(columns), atol=1e-5)


def test_an_image_that_never_loses_stays_finite():
    found = fit_pairs(pairs_of([pair("a", "b", "left"), pair("b", "c", "left")]))
    assert np.isfinite(found.strength_I).all()
    assert np.all(np.diff(found.strength_I) < 0)


def test_contradictory_pairs_make_equal_images():
    found = fit_pairs(pairs_of([pair("a", "b", "left"), pair("b", "c", "left"), pair("c", "a", "left")]))
    np.testing.assert_allclose(found.strength_I, 0, atol=1e-8)


def test_parts_that_nothing_compares_are_named():
    votes = [pair("a", "b", "left"), pair("b", "c", "same"), pair("x", "y", "right"), pair("a", "e", "left")]
    with pytest.raises(InputError, match=r"2 parts.*: a, b, c and 1 more \| x, y; compare images of different parts"):
        fit_pairs(pairs_of(votes))
    with pytest.raises(InputError, match="no pairs"):
        fit_pairs(pairs_of([grade("Ann", "a", 1)]))


def test_strengths_get_the_scale_of_the_grades():
    found = fit_pairs(drawn(np.linspace(-1, 1, 6), 0.5, 400, seed=4))
    mos_I = 3 + 0.8 * found.strength_I
    given_I = np.where(np.arange(6) % 2 == 0, mos_I, np.nan)
    scaled_I, stderr_I = scale_to_grades(found, given_I)
    np.testing.assert_allclose(scaled_I, mos_I)
    np.testing.assert_allclose(stderr_I, 0.8 * found.stderr_I)
    with pytest.raises(InputError, match="contradict"):
        scale_to_grades(found, 6 - mos_I)
    with pytest.raises(InputError, match="2 images have both"):
        scale_to_grades(found, np.where(np.arange(6) < 2, mos_I, np.nan))
