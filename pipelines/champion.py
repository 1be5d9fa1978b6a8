"""Whether a new version deserves to be champion: both models on the same held-out images, paired bootstrap."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from grmp_core.bundle import Bundle, read_bundle
from grmp_core.images import ImageLimits
from grmp_core.metrics import srcc
from grmp_core.scoring import Scorer
from grmp_core.storage import Location, locate

MIN_IMAGES = 10
"""Fewer held-out images decide nothing."""


class Comparison(NamedTuple):
    """SRCC of a candidate minus that of a champion on the same images, and its one-sided 95 % lower bound."""

    candidate: float
    champion: float
    difference: float
    lower: float
    n: int


def judge(
    place: Location, champion: str, open_champion: Callable[[], Location], margin: float, limits: ImageLimits
) -> tuple[bool, str]:
    """Whether the bundle at `place` is to take the place of version `champion`, and why or why not.

    The held-out images, their human scores and the candidate's predictions stand in `predictions.parquet` beside the
    bundle, as a sweep writes it; `open_champion` fetches the champion's bundle, which scores the same images.
    """
    stays = f"champion version {champion} stays"
    file = locate(place.uri.rstrip("/").rsplit("/", 1)[0]) / "predictions.parquet"
    if not file.exists():
        return False, f"{stays}: there are no held-out predictions to compare on ({file.uri} is missing)"
    table = pd.read_parquet(io.BytesIO(file.read_bytes()))
    rival = open_champion()
    theirs = _score(rival, table["image_path"].tolist(), limits)
    known = np.isfinite(theirs)
    if known.sum() < MIN_IMAGES:
        return False, f"{stays}: {known.sum()} of {len(table)} held-out images can be read, {MIN_IMAGES} are needed"
    ours, mos = table["quality"].to_numpy(float)[known], table["mos"].to_numpy(float)[known]
    promoted, reason = verdict(compare(ours, theirs[known], mos), margin, champion)
    return promoted, reason + _caveat(read_bundle(place), read_bundle(rival))


def compare(candidate_N: np.ndarray, champion_N: np.ndarray, mos_N: np.ndarray, seed: int = 0) -> Comparison:
    """Paired bootstrap over images: 2000 resamples, both models on the same ones; `lower` is the 5th percentile.

    A model that gives all images one score ranks nothing and counts as 0.
    """
    n = len(mos_N)
    rows = np.random.default_rng(seed).integers(n, size=(2000, n))
    differences = _srcc_of_rows(candidate_N[rows], mos_N[rows]) - _srcc_of_rows(champion_N[rows], mos_N[rows])
    ours, theirs = np.nan_to_num(srcc(candidate_N, mos_N)), np.nan_to_num(srcc(champion_N, mos_N))
    return Comparison(float(ours), float(theirs), float(ours - theirs), float(np.quantile(differences, 0.05)), n)


def verdict(result: Comparison, margin: float, champion: str) -> tuple[bool, str]:
    """Promoted or not, with all the numbers it was decided on."""
    numbers = (
        f"SRCC {result.candidate:.3f} against {result.champion:.3f} of version {champion} on the same {result.n} "
        f"held-out images, difference {result.difference:+.3f}, at least {result.lower:+.3f} with 95 % confidence"
    )
    if result.lower > margin:
        return True, f"{numbers}: more than the margin {margin:g}"
    return False, f"champion version {champion} stays: {numbers}, which is not more than the margin {margin:g}"


def _caveat(candidate: Bundle, champion: Bundle) -> str:
    """The champion's own split decides what it was trained on, which may be what the candidate never saw."""
    ours, theirs = (
        (b.provenance.get("target"), b.provenance.get("split_seed"), b.provenance.get("seed"))
        for b in (candidate, champion)
    )
    if None not in ours[:2] and ours == theirs:
        return ""
    return "; the champion may have been trained on some of these images, which favours it"


def _score(place: Location, paths: list[str], limits: ImageLimits) -> np.ndarray:
    """(N,) quality, nan where an image cannot be read."""
    scorer = Scorer(read_bundle(place), place.uri, limits=limits)
    parts = [scorer.score(paths[first : first + 16]) for first in range(0, len(paths), 16)]
    return np.array([score.quality for part in parts for score in part])


def _srcc_of_rows(a_RN: np.ndarray, b_RN: np.ndarray) -> np.ndarray:
    """Spearman correlation of each pair of rows, (R,); 0 where one is constant."""
    a, b = rankdata(a_RN, axis=1), rankdata(b_RN, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    products, norms = (a * b).sum(axis=1), np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
