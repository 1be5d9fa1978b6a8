"""The photos that an embedded backbone was trained on, as the package ships them, and how images compare with them.

Shapes: N images, F = D + E token statistics of an image, R references, K dimensions of a space, S spaces, H held-out
photos.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save

_SPACES = ("early", "late", "made")
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
    spaces: tuple[Space, ...]
    """Early, late, and the direction of pictures that no camera took."""
    references: tuple[np.ndarray, ...]
    """(R, K) coordinates in each space."""
    held_out_HS: np.ndarray
    """Of photos that training has not seen: distances in the first two spaces, and the place in the third."""

    def to_bytes(self) -> bytes:
        arrays = {"held_out_HS": self.held_out_HS.astype(np.float32)}
        arrays["weights_sha256"] = np.frombuffer(bytes.fromhex(self.weights_sha256), dtype=np.uint8)
        for name, space, references in zip(_SPACES, self.spaces, self.references, strict=True):
            arrays[f"{name}.mean_F"] = space.mean_F.astype(np.float32)
            arrays[f"{name}.map_KF"] = space.map_KF.astype(np.float32)
            arrays[f"{name}.references_RK"] = references
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Domain:
        arrays = load(data)
        return cls(
            weights_sha256=arrays["weights_sha256"].tobytes().hex(),
            spaces=tuple(Space(mean_F=arrays[f"{n}.mean_F"], map_KF=arrays[f"{n}.map_KF"]) for n in _SPACES),
            references=tuple(arrays[f"{name}.references_RK"] for name in _SPACES),
            held_out_HS=arrays["held_out_HS"],
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


def parts_of(statistics_NF: np.ndarray, early_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The statistics that the early, the late and the third space look at: (N, D), (N, E), (N, D)."""
    early, late = statistics_NF[:, :early_size], statistics_NF[:, early_size:]
    return early, late, early


def distances(points_NK: np.ndarray, references_RK: np.ndarray) -> np.ndarray:
    """(N, R) Euclidean distances in float64, exact where points are close. SciPy's import would take longer."""
    points, references = (torch.from_numpy(np.asarray(each, dtype=np.float64)) for each in (points_NK, references_RK))
    return torch.cdist(points, references, compute_mode="donot_use_mm_for_euclid_dist").numpy()


def nearest(points_NK: np.ndarray, references_RK: np.ndarray) -> np.ndarray:
    """(N,) distance to the nearest reference."""
    return distances(points_NK, references_RK).min(axis=1)
