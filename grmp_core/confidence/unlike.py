"""Images that are unlike all that a model has seen: their scores deserve no trust, however sure they look.

An image is as far as the nearest reference in two spaces: that of the tokens before the first block (colours, textures,
noise) and that of the pooled tokens after the last one (what it shows). References are the labelled images of the
target and, for the embedded backbone, photos of its training, as they are and distorted. Another camera or codec shifts
all its images by about the same amount, so these photos are moved to where the labelled images lie: they say how images
vary, and the labels say around what. The shift is shrunk by its own noise (the positive-part estimator of James and
Stein, 1961). For the embedded backbone there is a third measure: how little an image looks like a photo, a direction of
the first space that has learned to tell photos from pictures made by script (outliers shown in training: Hendrycks,
Mazeika and Dietterich, 2019). Labelled images that are no photos shift it, too.

An image is unlike where it is farther than a stated share of held-out photos and of the labelled images, each seen from
the others. The share is halved between the two distances and the third measure, so that one labelled image with strange
colours does not hide pictures, nor a labelled picture strange colours.

Shapes: N images, F = D + E token statistics of an image, R references, K dimensions of a space, S spaces, T thresholds,
H held-out photos, M labelled images in G groups.
"""

from __future__ import annotations

import math

import numpy as np

from grmp_core.confidence.domain import Domain, Space, distances, nearest, parts_of
from grmp_core.confidence.evidence import Evidence

UNIT_QUANTILE = 0.95
"""Of known distances: it is at distance 1."""
_TINY = 1e-9


class _KnownPlaces:
    """The references in one space; an image is as far as the nearest of them.

    Args:
        points_MK: labelled images.
        groups_M: of the same scene; an image is seen from those of other groups, and the shift counts each group once.
        shipped_RK: photos of the backbone's training; null without a domain.
    """

    def __init__(self, points_MK: np.ndarray, groups_M: np.ndarray, shipped_RK: np.ndarray | None) -> None:
        self._points_MK, self._shipped_RK = points_MK, shipped_RK
        self.labelled_M = _nearest_of_others(points_MK, groups_M)
        """Distances of the labelled images from all other references."""
        if shipped_RK is not None:
            self._shift_K, moved_MK = _moved(points_MK, groups_M, shipped_RK.mean(axis=0, dtype=np.float64))
            self.labelled_M = np.minimum(self.labelled_M, nearest(moved_MK, shipped_RK))

    def distance(self, points_NK: np.ndarray) -> np.ndarray:
        """(N,) distance from the nearest reference."""
        labelled_N = nearest(points_NK, self._points_MK)
        if self._shipped_RK is None:
            return labelled_N
        return np.minimum(labelled_N, nearest(points_NK - self._shift_K, self._shipped_RK))


class _KnownLooks:
    """One direction. An image is as far as it lies along it, less the shift of the labelled images from the photos.

    In one dimension the shrunk shift is none below one standard error.
    """

    def __init__(self, points_M1: np.ndarray, groups_M: np.ndarray, shipped_R1: np.ndarray) -> None:
        self._shift_1, moved_M1 = _moved(points_M1, groups_M, shipped_R1.mean(axis=0, dtype=np.float64))
        self.labelled_M = moved_M1[:, 0]

    def distance(self, points_N1: np.ndarray) -> np.ndarray:
        """(N,) place along the direction; below 0 is possible."""
        return (points_N1 - self._shift_1)[:, 0]


class Likeness:
    """How far images are from the references of a model.

    Args:
        evidence: of the model; its statistics are of the labelled images.
        domain: of its backbone, where its statistics are the deep ones that belong to it.
        share: of held-out photos, and of labelled images, that may be called unlike; in (0, 1).
    """

    def __init__(self, evidence: Evidence, domain: Domain | None, share: float) -> None:
        self._early_size = evidence.early_size
        labelled = parts_of(evidence.statistics_MF.astype(np.float64), self._early_size)
        self._spaces = domain.spaces if domain else tuple(map(Space.standardized, labelled[:2]))
        points = [space(part) for space, part in zip(self._spaces, labelled[: len(self._spaces)], strict=True)]
        groups_M = evidence.groups_M
        self._known_ones: list[_KnownPlaces | _KnownLooks]
        if domain is None:
            self._known_ones = [_KnownPlaces(points_MK, groups_M, None) for points_MK in points]
        else:
            *shipped, photos_R1 = domain.references
            *places, looks_M1 = points
            self._known_ones = [_KnownPlaces(a_MK, groups_M, near) for a_MK, near in zip(places, shipped, strict=True)]
            self._known_ones.append(_KnownLooks(looks_M1, groups_M, photos_R1))
        other_MS = np.stack([known.labelled_M for known in self._known_ones], axis=1)
        other_MS = other_MS[np.isfinite(other_MS).all(axis=1)]
        known_HS = domain.held_out_HS if domain else other_MS
        self._known = len(known_HS) > 1
        if self._known:
            self._middle_S = np.median(known_HS, axis=0)
            self._reach_S = self._reach(known_HS, share)
            self._unit_S = self._reach(known_HS, 1 - UNIT_QUANTILE)
            self._other_MS = other_MS
            samples = [self._joined(each) for each in (known_HS, other_MS) if len(each)]
            parts = samples[0].shape[1]
            self._threshold_T = np.array(
                [max(_exceeded_by(sample[:, part], share / parts) for sample in samples) for part in range(parts)]
            )

    @property
    def known(self) -> bool:
        """False where there is nothing to compare with: no domain, and labelled images of one reference."""
        return self._known

    @property
    def labelled_distances(self) -> np.ndarray:
        """`distance` of the labelled images, each from the others and from known photos; (at most M,), sorted."""
        return np.sort(self._in_units(self._other_MS, self._unit_S).max(axis=1))

    def excess(self, statistics_NF: np.ndarray) -> np.ndarray:
        """(N,) distance beyond the threshold, in units of the spread of known distances; an image is unlike above 0."""
        return self.look(statistics_NF)[0]

    def distance(self, statistics_NF: np.ndarray) -> np.ndarray:
        """(N,) the largest measure, whatever `share` is: 0 is the middle of known images, 1 what 5 % exceed."""
        return self.look(statistics_NF)[1]

    def look(self, statistics_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`excess` and `distance`."""
        parts = parts_of(np.asarray(statistics_NF, dtype=np.float64), self._early_size)
        measures = [
            known.distance(space(part))
            for known, space, part in zip(self._known_ones, self._spaces, parts[: len(self._spaces)], strict=True)
        ]
        distances_NS = np.stack(measures, axis=1)
        excess_NT = self._joined(distances_NS) - self._threshold_T
        return excess_NT.max(axis=1), self._in_units(distances_NS, self._unit_S).max(axis=1)

    def _reach(self, known_HS: np.ndarray, share: float) -> np.ndarray:
        return np.maximum(np.quantile(known_HS, 1 - share, axis=0) - self._middle_S, _TINY)

    def _joined(self, distances_NS: np.ndarray) -> np.ndarray:
        """(N, T) in units: the larger one of the distances and, with a domain, the third measure."""
        units_NS = self._in_units(distances_NS, self._reach_S)
        return np.column_stack([units_NS[:, :2].max(axis=1), units_NS[:, 2:]])

    def _in_units(self, distances_NS: np.ndarray, unit_S: np.ndarray) -> np.ndarray:
        return (distances_NS - self._middle_S) / unit_S


def _exceeded_by(values_N: np.ndarray, share: float) -> float:
    """Bound that a further value of the kind exceeds with a probability of at most `share`; of too few the largest."""
    rank = min(math.ceil((len(values_N) + 1) * (1 - share)), len(values_N))
    return float(np.sort(values_N)[rank - 1])


def _moved(points_MK: np.ndarray, groups_M: np.ndarray, centre_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) shift from the centre to the labelled images, and these less the shift of the other groups, (M, K)."""
    groups, index_M = np.unique(groups_M, return_inverse=True)
    of_group_GM = index_M[None] == np.arange(len(groups))[:, None]
    means_GK = of_group_GM @ points_MK / of_group_GM.sum(axis=1, keepdims=True)
    shift_K = _shifts(means_GK, np.ones((1, len(groups)), dtype=bool), centre_K)[0]
    return shift_K, points_MK - _shifts(means_GK, ~np.eye(len(groups), dtype=bool), centre_K)[index_M]


def _shifts(means_GK: np.ndarray, chosen_SG: np.ndarray, centre_K: np.ndarray) -> np.ndarray:
    """(S, K) shift from the centre to the mean of the groups' means that each row chooses; 0 from fewer than two.

    It is shrunk by the share that the squared standard error of that mean has in its squared length. Images of a group
    are not independent, groups are.
    """
    count_S = chosen_SG.sum(axis=1)
    divisor_S = np.maximum(count_S, 2)
    mean_SK = (chosen_SG @ means_GK) / divisor_S[:, None]
    squares_S = chosen_SG @ (means_GK**2).sum(axis=1)
    error_S = (squares_S / divisor_S - (mean_SK**2).sum(axis=1)) / (divisor_S - 1)
    shift_SK = mean_SK - centre_K
    kept_S = np.maximum(1 - error_S / np.maximum((shift_SK**2).sum(axis=1), _TINY), 0)
    return shift_SK * (kept_S * (count_S > 1))[:, None]


def _nearest_of_others(points_MK: np.ndarray, groups_M: np.ndarray) -> np.ndarray:
    """(M,) distance to the nearest image of another group; infinite where there is none."""
    distances_MM = distances(points_MK, points_MK)
    distances_MM[groups_M[:, None] == groups_M[None]] = np.inf
    return distances_MM.min(axis=1)
