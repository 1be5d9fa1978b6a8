"""Strengths of images from pairs: Bradley and Terry's model with ties by Davidson (1970)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from grmp_core.errors import InputError
from grmp_core.ratings.connectedness import check_connected
from grmp_core.ratings.vote_log import Vote

PRIOR_SD = 3.0
"""Standard deviation of a normal prior of strengths, in logits."""
MIN_COMMON = 3
"""Images with both grades and pairs that are needed to tie strengths to the scale of the grades."""


@dataclass(frozen=True, kw_only=True)
class PairVotes:
    """Pairs by index of their images."""

    images: tuple[str, ...]
    left_P: np.ndarray
    right_P: np.ndarray
    outcome_P: np.ndarray
    """1 where the left one is better, -1 the right one, 0 the same."""


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """The chance that i beats j, given that they do not tie, is 1 / (1 + exp(strength_j - strength_i))."""

    strength_I: np.ndarray
    """In logits, mean 0, float64 (I,)."""
    stderr_I: np.ndarray
    """Standard error against the mean of all images, float64 (I,)."""
    votes_I: np.ndarray
    """Pairs that an image was in, int64 (I,)."""
    tie: float
    """Davidson's nu: two equal images tie with probability nu / (2 + nu); 0 without ties."""


def pairs_of(votes: Iterable[Vote]) -> PairVotes:
    """The pairs of a vote log; repeats and grades are left out."""
    pairs = [vote for vote in votes if vote.kind == "pair" and not vote.repeat]
    index = {image: i for i, image in enumerate(dict.fromkeys(image for vote in pairs for image in vote.images))}
    return PairVotes(
        images=tuple(index),
        left_P=np.array([index[vote.images[0]] for vote in pairs], dtype=np.int64),
        right_P=np.array([index[vote.images[1]] for vote in pairs], dtype=np.int64),
        outcome_P=np.array([{"left": 1, "same": 0, "right": -1}[str(vote.value)] for vote in pairs], dtype=np.int64),
    )


def fit_pairs(pairs: PairVotes, prior_sd: float = PRIOR_SD) -> Strengths:
    """The most probable strengths under a weak normal prior, without which an image that never loses has none.

    Raises:
        InputError: no pairs, or images that no chain of pairs connects.
    """
    count = len(pairs.images)
    if count == 0:
        raise InputError("there are no pairs; compare some images first")
    check_connected(
        pairs.images,
        pairs.left_P,
        pairs.right_P,
        "compare images of different parts, as grmp rate --pairs goes on to do",
    )
    has_ties = bool(np.any(pairs.outcome_P == 0))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient, _ = _posterior(x, pairs, prior_sd, has_ties)
        return loss, gradient

    found = optimize.minimize(
        objective,
        np.zeros(count + has_ties),
        jac=True,
        hess=lambda x: _posterior(x, pairs, prior_sd, has_ties)[2],
        method="trust-exact",
        options={"gtol": 1e-8},
    )
    strength_I = found.x[:count]
    covariance_II = np.linalg.inv(_posterior(found.x, pairs, prior_sd, has_ties)[2])[:count, :count]
    centre_II = np.eye(count) - 1 / count
    return Strengths(
        strength_I=strength_I - strength_I.mean(),
        stderr_I=np.sqrt(np.diag(centre_II @ covariance_II @ centre_II)),
        votes_I=np.bincount(np.concatenate([pairs.left_P, pairs.right_P]), minlength=count),
        tie=float(np.exp(found.x[count])) if has_ties else 0.0,
    )


def _posterior(
    x: np.ndarray, pairs: PairVotes, prior_sd: float, has_ties: bool
) -> tuple[float, np.ndarray, np.ndarray]:
    """Negative log posterior of strengths (and the logarithm of nu after them), its gradient and Hessian."""
    count, left_P, right_P = len(pairs.images), pairs.left_P, pairs.right_P
    gap_P = x[left_P] - x[right_P]
    log_tie = x[count] if has_ties else -np.inf
    logits_P3 = np.stack([gap_P / 2, np.full_like(gap_P, log_tie), -gap_P / 2], axis=1)
    log_total_P = np.logaddexp.reduce(logits_P3, axis=1)
    win_P, tie_P, loss_P = np.exp(logits_P3 - log_total_P[:, None]).T
    is_tie_P = pairs.outcome_P == 0
    chosen_P = np.where(is_tie_P, log_tie if has_ties else 0.0, pairs.outcome_P * gap_P / 2)
    precision = prior_sd**-2
    value = float(np.sum(log_total_P - chosen_P) + precision * x @ x / 2)
    slope_P = (win_P - loss_P - pairs.outcome_P) / 2
    curve_P = (win_P + loss_P) / 4 - (win_P - loss_P) ** 2 / 4
    gradient, hessian = precision * x, precision * np.eye(len(x))
    for index_P, sign in ((left_P, 1), (right_P, -1)):
        np.add.at(gradient, index_P, sign * slope_P)
        np.add.at(hessian, (index_P, index_P), curve_P)
    np.add.at(hessian, (left_P, right_P), -curve_P)
    np.add.at(hessian, (right_P, left_P), -curve_P)
    if has_ties:
        gradient[count] += np.sum(tie_P - is_tie_P)
        hessian[count, count] += np.sum(tie_P * (1 - tie_P))
        cross_P = -tie_P * (win_P - loss_P) / 2
        for index_P, sign in ((left_P, 1), (right_P, -1)):
            np.add.at(hessian[count], index_P, sign * cross_P)
            np.add.at(hessian[:, count], index_P, sign * cross_P)
    return value, gradient, hessian


def scale_to_grades(strengths: Strengths, mos_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strengths on the scale of grades, and their standard errors, by the straight line through the images that have
    both. mos_I: float64 (I,), NaN for an image without a grade.

    Raises:
        InputError: fewer than three images have both, or the better ones by pairs have the worse grades.
    """
    common_I = ~np.isnan(mos_I)
    if common_I.sum() < MIN_COMMON:
        raise InputError(
            f"{common_I.sum()} images have both grades and pairs; grade at least {MIN_COMMON} of the compared images, "
            "or keep grades and pairs in separate logs"
        )
    strength_C = strengths.strength_I[common_I] - strengths.strength_I[common_I].mean()
    spread = strength_C @ strength_C
    slope = strength_C @ mos_I[common_I] / spread if spread > 0 else 0.0
    if slope <= 0:
        raise InputError(
            f"grades and pairs contradict each other on the {common_I.sum()} images that have both; look at these votes"
        )
    middle = mos_I[common_I].mean() - slope * strengths.strength_I[common_I].mean()
    return middle + slope * strengths.strength_I, slope * strengths.stderr_I
