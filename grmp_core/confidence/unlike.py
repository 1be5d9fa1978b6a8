"""Images that are unlike all that a model has seen: their scores deserve no trust, however sure they look.

An image is as far as the nearest reference in two spaces: that of the tokens before the first block (colours, textures,
noise) and that of the pooled tokens after the last one (what it shows). References are the labelled images of the
target and, for the embedded backbone, photos of its training, as they are and distorted. Another camera or codec shifts
all its images by about the same amount, so these photos are moved to where the labelled images lie: they say how images
vary, and the labels say around what. The shift is shrunk by its own noise (the positive-part estimator of James and
Stein, 1961). An image is unlike where it is farther than a stated share of held-out photos and of the labelled images,
each seen from the others.

Shapes: N images, F = D + E token statistics of an image, R references, K dimensions of a space, H held-out photos, M
labelled images in G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save
from scipy.spatial.distance import cdist

from grmp_core.confidence.evidence import Evidence

EARLY_DIMENSIONS, LATE_DIMENSIONS = 16, 32
"""Principal components kept of each space."""
UNIT_QUANTILE = 0.95
"""Of known distances: it is at distance 1."""
_ASSET = "{}.domain.safetensors"
_TINY = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """Statistics -> coordinates of a space."""

    mean_F: np.ndarray
    map_KF: np.ndarray

    @classmethod
    def whitened(cls, statistics_NF: np.ndarray, dimensions: int) -> Space:
        """Principal components of the standardized statistics, each with variance 1."""
        mean_F, spread_F = statistics_NF.mean(axis=0), statistics_NF.std(axis=0) + _TINY
        _, values, axes = np.linalg.svd((statistics_NF - mean_F) / spread_F, full_matrices=False)
        kept = values[:dimensions] > _TINY * values[0]
        lengths = values[:dimensions][kept] / math.sqrt(len(statistics_NF))
        return cls(mean_F=mean_F, map_KF=axes[:dimensions][kept] / lengths[:, None] / spread_F)

    @classmethod
    def standardized(cls, statistics_NF: np.ndarray) -> Space:
        """The statistics themselves, each with variance 1: what few images can tell."""
        return cls(mean_F=statistics_NF.mean(axis=0), map_KF=np.diag(1 / (statistics_NF.std(axis=0) + _TINY)))

    def __call__(self, statistics_NF: np.ndarray) -> np.ndarray:
        """-> (N, K) coordinates."""
        return (np.asarray(statistics_NF, dtype=np.float64) - self.mean_F) @ self.map_KF.T


@dataclass(frozen=True, kw_only=True, eq=False)
class Domain:
    """The training photos of a backbone, as the package ships them."""

    weights_sha256: str
    spaces: tuple[Space, Space]
    references: tuple[np.ndarray, np.ndarray]
    """(R, K) coordinates in each space."""
    held_out_H2: np.ndarray
    """Distances of photos that training has not seen."""

    @classmethod
    def of(cls, references_RF: np.ndarray, held_out_HF: np.ndarray, early_size: int, weights_sha256: str) -> Domain:
        """From statistics of reference photos and of held-out ones, of which `early_size` are early."""
        parts = list(zip(_parts(references_RF, early_size), _parts(held_out_HF, early_size), strict=True))
        spaces = tuple(
            Space.whitened(reference, dimensions)
            for (reference, _), dimensions in zip(parts, (EARLY_DIMENSIONS, LATE_DIMENSIONS), strict=True)
        )
        references = tuple(
            space(reference).astype(np.float16) for space, (reference, _) in zip(spaces, parts, strict=True)
        )
        held_out = [_nearest(space(new), near) for space, near, (_, new) in zip(spaces, references, parts, strict=True)]
        return cls(
            weights_sha256=weights_sha256,
            spaces=(spaces[0], spaces[1]),
            references=(references[0], references[1]),
            held_out_H2=np.stack(held_out, axis=1),
        )

    def to_bytes(self) -> bytes:
        arrays = {"held_out_H2": self.held_out_H2.astype(np.float32)}
        arrays["weights_sha256"] = np.frombuffer(bytes.fromhex(self.weights_sha256), dtype=np.uint8)
        for name, space, references in zip(("early", "late"), self.spaces, self.references, strict=True):
            arrays[f"{name}.mean_F"] = space.mean_F.astype(np.float32)
            arrays[f"{name}.map_KF"] = space.map_KF.astype(np.float16)
            arrays[f"{name}.references_RK"] = references
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Domain:
        arrays = load(data)
        names = ("early", "late")
        early, late = (Space(mean_F=arrays[f"{n}.mean_F"], map_KF=arrays[f"{n}.map_KF"]) for n in names)
        return cls(
            weights_sha256=arrays["weights_sha256"].tobytes().hex(),
            spaces=(early, late),
            references=(arrays["early.references_RK"], arrays["late.references_RK"]),
            held_out_H2=arrays["held_out_H2"],
        )


def domain_file(backbone: str) -> Path:
    """Where the package ships the domain of a backbone, if it does."""
    return Path(str(resources.files("grmp_core"))) / "assets" / _ASSET.format(backbone.replace("/", "-"))


def has_domain(backbone: str, weights_sha256: str) -> bool:
    """Whether the package ships the domain of a backbone with these weights."""
    return domain_of(backbone, weights_sha256) is not None


def domain_of(backbone: str, weights_sha256: str) -> Domain | None:
    """The domain of a backbone; null for backbones whose training photos nobody knows, and other weights."""
    file = domain_file(backbone)
    domain = Domain.from_bytes(file.read_bytes()) if file.is_file() else None
    return domain if domain is not None and domain.weights_sha256 == weights_sha256 else None


class _KnownPlaces:
    """The references in one space.

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
            centre_K = shipped_RK.mean(axis=0, dtype=np.float64)
            groups, index_M = np.unique(groups_M, return_inverse=True)
            of_group_GM = index_M[None] == np.arange(len(groups))[:, None]
            means_GK = of_group_GM @ points_MK / of_group_GM.sum(axis=1, keepdims=True)
            self._shift_K = _shifts(means_GK, np.ones((1, len(groups)), dtype=bool), centre_K)[0]
            moved_MK = points_MK - _shifts(means_GK, ~np.eye(len(groups), dtype=bool), centre_K)[index_M]
            self.labelled_M = np.minimum(self.labelled_M, _nearest(moved_MK, shipped_RK))

    def nearest(self, points_NK: np.ndarray) -> np.ndarray:
        """(N,) distance to the nearest reference."""
        labelled_N = _nearest(points_NK, self._points_MK)
        if self._shipped_RK is None:
            return labelled_N
        return np.minimum(labelled_N, _nearest(points_NK - self._shift_K, self._shipped_RK))


class Likeness:
    """How far images are from the references of a model.

    Args:
        evidence: of the model; its statistics are of the labelled images.
        domain: of its backbone, where its statistics are the deep ones that belong to it.
        share: of held-out photos, and of labelled images, that may be called unlike; in (0, 1).
    """

    def __init__(self, evidence: Evidence, domain: Domain | None, share: float) -> None:
        self._early_size = evidence.early_size
        labelled = _parts(evidence.statistics_MF.astype(np.float64), self._early_size)
        spaces = domain.spaces if domain else tuple(Space.standardized(part) for part in labelled)
        self._spaces = spaces
        references = domain.references if domain else (None, None)
        self._known_places = [
            _KnownPlaces(space(part), evidence.groups_M, shipped)
            for space, part, shipped in zip(spaces, labelled, references, strict=True)
        ]
        other_M2 = np.stack([places.labelled_M for places in self._known_places], axis=1)
        other_M2 = other_M2[np.isfinite(other_M2).all(axis=1)]
        known_H2 = domain.held_out_H2 if domain else other_M2
        self._known = len(known_H2) > 1
        if self._known:
            self._middle_2 = np.median(known_H2, axis=0)
            self._reach_2 = self._reach(known_H2, share)
            self._unit_2 = self._reach(known_H2, 1 - UNIT_QUANTILE)
            self._other_M2 = other_M2
            thresholds = [_exceeded_by(self._joined(each), share) for each in (known_H2, other_M2) if len(each)]
            self._threshold = max(thresholds)

    @property
    def known(self) -> bool:
        """False where there is nothing to compare with: no domain, and labelled images of one reference."""
        return self._known

    @property
    def labelled_distances(self) -> np.ndarray:
        """`distance` of the labelled images, each from the others and from known photos; (at most M,), sorted."""
        return np.sort(self._in_units(self._other_M2, self._unit_2))

    def excess(self, statistics_NF: np.ndarray) -> np.ndarray:
        """(N,) distance beyond the threshold, in units of the spread of known distances; an image is unlike above 0."""
        return self.look(statistics_NF)[0]

    def distance(self, statistics_NF: np.ndarray) -> np.ndarray:
        """(N,) distance, whatever `share` is: 0 for the middle of known images, 1 where 5 % of them are farther."""
        return self.look(statistics_NF)[1]

    def look(self, statistics_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`excess` and `distance`."""
        parts = _parts(np.asarray(statistics_NF, dtype=np.float64), self._early_size)
        distances = [
            places.nearest(space(part))
            for space, part, places in zip(self._spaces, parts, self._known_places, strict=True)
        ]
        distances_N2 = np.stack(distances, axis=1)
        return self._joined(distances_N2) - self._threshold, self._in_units(distances_N2, self._unit_2)

    def _reach(self, known_H2: np.ndarray, share: float) -> np.ndarray:
        return np.maximum(np.quantile(known_H2, 1 - share, axis=0) - self._middle_2, _TINY)

    def _joined(self, distances_N2: np.ndarray) -> np.ndarray:
        return self._in_units(distances_N2, self._reach_2)

    def _in_units(self, distances_N2: np.ndarray, unit_2: np.ndarray) -> np.ndarray:
        return ((distances_N2 - self._middle_2) / unit_2).max(axis=1)


def _exceeded_by(values_N: np.ndarray, share: float) -> float:
    """Bound that a further value of the kind exceeds with a probability of at most `share`; of too few the largest."""
    rank = min(math.ceil((len(values_N) + 1) * (1 - share)), len(values_N))
    return float(np.sort(values_N)[rank - 1])


def _parts(statistics_NF: np.ndarray, early_size: int) -> tuple[np.ndarray, np.ndarray]:
    return statistics_NF[:, :early_size], statistics_NF[:, early_size:]


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


def _nearest(points_NK: np.ndarray, references_RK: np.ndarray) -> np.ndarray:
    """(N,) distance to the nearest reference."""
    return cdist(points_NK, np.asarray(references_RK, dtype=np.float64)).min(axis=1)


def _nearest_of_others(points_MK: np.ndarray, groups_M: np.ndarray) -> np.ndarray:
    """(M,) distance to the nearest image of another group; infinite where there is none."""
    distances_MM = cdist(points_MK, points_MK)
    distances_MM[groups_M[:, None] == groups_M[None]] = np.inf
    return distances_MM.min(axis=1)
