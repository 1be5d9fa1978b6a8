"""Whether a new version deserves to be champion: both models on the same held-out images, paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from grmp_core.confidence.intervals import interval_of, margin_of
from grmp_core.evaluation.metrics import MIN_INTERVAL_IMAGES, srcc
from grmp_core.evaluation.value_pairs import merge_ties
from grmp_core.imaging.decoding import ImageLimits, id_of_file, picture_of
from grmp_core.model.bundle import LEARNED_FROM, Bundle, read_bundle
from grmp_core.model.scorer import Scorer, untrusted_because
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location
from pipelines.results.sweep_folder import TrialFolder

PROMISED_COVERAGE = 0.9
"""Share of the human scores that intervals are to hold."""
_SIGNIFICANT = 0.05


class Comparison(NamedTuple):
    """SRCC of a candidate minus that of a champion on the same images, and its one-sided 95 % lower bound."""

    candidate: float
    champion: float
    difference: float
    lower: float
    n: int


def judge(
    candidate: Location, champion: str, open_champion: Callable[[], Location], margin: float, limits: ImageLimits
) -> tuple[bool, str]:
    """Whether the bundle at `candidate` is to replace version `champion`, and why or why not.

    The held-out images, their human scores and the candidate's predictions are read from `predictions.parquet` beside
    the bundle, as a sweep writes it; `open_champion` fetches the champion's bundle, which scores those of the images
    that it has not learned from. The candidate's intervals are tested on all held-out images, whatever the champion
    knows.
    """
    stays = f"champion version {champion} stays"
    folder = TrialFolder(candidate.parent)
    held_out = folder.read_predictions()
    if held_out is None:
        return False, f"{stays}: there are no held-out predictions to compare on ({folder.predictions.uri} is missing)"
    bundle = read_bundle(candidate)
    scale = bundle.score_range
    if scale is None:
        return False, f"{stays}: {candidate.uri} does not record the scale of its scores"
    location = open_champion()
    rival = read_bundle(location)
    seen = rival.provenance.get(LEARNED_FROM)
    new = np.array([not seen or id_of_file(path) not in seen for path in held_out["image_path"]], dtype=bool)
    table = held_out[new]
    scores = Scorer(rival, location.uri, limits=limits).score(picture_of(path) for path in table["image_path"])
    theirs = np.array([score.quality for score in scores])  # nan where an image cannot be read
    readable = np.isfinite(theirs)
    if readable.sum() < MIN_INTERVAL_IMAGES:
        images = f"{readable.sum()} of {len(held_out)} held-out images"
        return False, f"{stays}: {images} can be read and are new to it, {MIN_INTERVAL_IMAGES} are needed"
    ours, human = table["quality"].to_numpy(float)[readable], scale.to_quality(table["mos"].to_numpy(float)[readable])
    promoted, reason = verdict(compare(ours, theirs[readable], np.asarray(human)), margin, champion)
    if promoted:
        promoted, coverage = _intervals_verdict(bundle, held_out, scale)
        reason = f"{reason}; {coverage}" if promoted else f"{stays}: {coverage}; {reason}"
    return promoted, reason + _note(seen, len(held_out) - len(table))


def compare(candidate_N: np.ndarray, champion_N: np.ndarray, mos_N: np.ndarray, seed: int = 0) -> Comparison:
    """Paired bootstrap over images: 2000 resamples, both models on the same ones; `lower` is the 5th percentile.

    A model that gives all images one score ranks nothing and counts as 0.
    """
    candidate_N, champion_N = merge_ties(candidate_N), merge_ties(champion_N)

    def lead(candidate: np.ndarray, champion: np.ndarray, mos: np.ndarray, axis: int) -> np.ndarray:
        return _srcc_of_rows(candidate, mos) - _srcc_of_rows(champion, mos)

    resampled = stats.bootstrap(
        (candidate_N, champion_N, mos_N), lead, paired=True, vectorized=True, n_resamples=2000, confidence_level=0.95,
        alternative="greater", method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    ours, theirs = np.nan_to_num(srcc(candidate_N, mos_N)), np.nan_to_num(srcc(champion_N, mos_N))
    lower = float(resampled.confidence_interval.low)
    return Comparison(float(ours), float(theirs), float(ours - theirs), lower, len(mos_N))


def verdict(result: Comparison, margin: float, champion: str) -> tuple[bool, str]:
    """Promoted or not, with all the numbers it was decided on."""
    numbers = (
        f"SRCC {result.candidate:.3f} against {result.champion:.3f} of version {champion} on the same {result.n} "
        f"held-out images, difference {result.difference:+.3f}, at least {result.lower:+.3f} with 95 % confidence"
    )
    if result.lower > margin:
        return True, f"{numbers}: more than the margin {margin:g}"
    return False, f"champion version {champion} stays: {numbers}, which is not more than the margin {margin:g}"


def coverage_verdict(
    low_N: np.ndarray, high_N: np.ndarray, human_N: np.ndarray, promised: float, labels: int
) -> tuple[bool, str]:
    """Whether intervals hold as many human scores as they promise, with the numbers.

    Refused where sound intervals would hold so few in less than 5 % of draws, of the labels and of the N images. An
    interval at a quantile of held-out errors keeps its promise on average over draws of labels; what one draw holds has
    the beta distribution of an order statistic (Vovk, 2012, "Conditional validity of inductive conformal predictors"),
    and so the count is beta-binomial. With many labels that is the exact binomial test.

    Args:
        low_N, high_N: ends of the intervals, on the scale of `human_N`.
        promised: share of the human scores that they are to hold, in (0, 1).
        labels: held-out errors that the intervals were made of.
    """
    held = int(((low_N <= human_N) & (human_N <= high_N)).sum())
    below, above = promised * (labels + 1), (1 - promised) * (labels + 1)
    p = float(stats.betabinom.cdf(held, len(human_N), below, above))
    numbers = f"its intervals hold {held} of {len(human_N)} human scores, {promised:.0%} are promised"
    return p >= _SIGNIFICANT, f"{numbers} by {labels} labels (p {p:.3f})"


def _intervals_verdict(bundle: Bundle, held_out: pd.DataFrame, scale: ScoreRange) -> tuple[bool, str]:
    """`coverage_verdict` of a bundle's intervals on its held-out images; accepted, with the reason, where there are no
    intervals."""
    untrusted = untrusted_because(bundle)
    if untrusted is not None or bundle.evidence is None:
        return True, f"no intervals were tested: {untrusted}"
    margin = margin_of(bundle.evidence.predicted_N, bundle.evidence.quality_N, PROMISED_COVERAGE)
    low, high = interval_of(held_out["quality"].to_numpy(float), margin)
    human = np.asarray(scale.to_quality(held_out["mos"].to_numpy(float)))
    return coverage_verdict(low, high, human, PROMISED_COVERAGE, len(bundle.evidence.quality_N))


def _note(seen: list[str] | None, left_out: int) -> str:
    """On the images that the champion had learned from: its own split may have been another one."""
    if seen is None:
        return "; the champion does not say what it has learned from: some of these images would favour it"
    return f"; {left_out} held-out images took no part, since the champion has learned from them" if left_out else ""


def _srcc_of_rows(a_RN: np.ndarray, b_RN: np.ndarray) -> np.ndarray:
    """Spearman correlation of each pair of rows, (...,) of (..., N); 0 where one is constant."""
    a, b = stats.rankdata(a_RN, axis=-1), stats.rankdata(b_RN, axis=-1)
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    products, norms = (a * b).sum(axis=-1), np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
