"""The images that can be labelled, as the planner sees them: frozen features and the score without a label.

Features may lie on disk in half precision: they are read in chunks, so memory does not grow with their number.

Shapes: S stored rows, N images of the pool, D features, P principal components, L images of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from grmp_core.errors import InputError

_CHUNK_ROWS = 4096
COMPONENTS = 16
"""Principal components in which distances are measured. With 32 and 64 the held-out photos gave the same."""


@dataclass(frozen=True)
class FeaturePool:
    """InputError for arrays that do not fit each other, no image, or values that are not finite."""

    stored_SD: np.ndarray
    """Features, an array or a memory map; rows that the pool does not have may be among them."""
    rows_N: np.ndarray
    """Row of each image in `stored_SD`."""
    base_N: np.ndarray
    """The backbone's score without a label, on any scale, higher is better."""

    @classmethod
    def of(cls, features_ND: np.ndarray, base_N: np.ndarray) -> FeaturePool:
        """A pool whose image i has the row i of an array."""
        return cls(features_ND, np.arange(len(features_ND)), base_N)

    def __post_init__(self) -> None:
        if self.stored_SD.ndim != 2 or self.rows_N.shape != self.base_N.shape or not len(self.base_N):
            shapes = f"{self.stored_SD.shape} features, {self.rows_N.shape} rows and {self.base_N.shape} scores"
            raise InputError(f"a pool needs one row of features and one score an image, and one image; got {shapes}")
        if not np.isfinite(self.base_N).all() or not all(np.isfinite(chunk).all() for _, chunk in self._chunks()):
            raise InputError("features or scores of the pool are not finite")

    def __len__(self) -> int:
        return len(self.base_N)

    def _chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(self), _CHUNK_ROWS):
            images = slice(start, start + _CHUNK_ROWS)
            yield images, self.stored_SD[self.rows_N[images]].astype(np.float64)

    @cached_property
    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and standard deviation (D,) of the features; a constant feature has deviation 1."""
        total = sum(chunk.sum(axis=0) for _, chunk in self._chunks())
        mean_D = np.asarray(total) / len(self)
        squares = sum(((chunk - mean_D) ** 2).sum(axis=0) for _, chunk in self._chunks())
        std_D = np.sqrt(np.asarray(squares) / len(self))
        return mean_D, np.where(std_D > 1e-6 * np.abs(mean_D), std_D, 1.0)

    def _standardized(self, features_ND: np.ndarray) -> np.ndarray:
        mean_D, std_D = self._scale
        return (features_ND - mean_D) / std_D

    def _listed(self, list_L: np.ndarray) -> np.ndarray:
        return self._standardized(self.stored_SD[self.rows_N[list_L]].astype(np.float64))

    @cached_property
    def points(self) -> np.ndarray:
        """(N, P) principal components of the standardized features, at most `COMPONENTS`, float32."""
        covariance_DD = sum((z := self._standardized(chunk)).T @ z for _, chunk in self._chunks())
        _, vectors_DD = np.linalg.eigh(np.asarray(covariance_DD))
        basis_DP = vectors_DD[:, ::-1][:, :COMPONENTS]
        points_NP = np.empty((len(self), basis_DP.shape[1]), dtype=np.float32)
        for images, chunk in self._chunks():
            points_NP[images] = self._standardized(chunk) @ basis_DP
        return points_NP

    def products(self, list_L: np.ndarray) -> np.ndarray:
        """(N, L) inner products of all standardized features with those of the images `list_L`, float32."""
        listed_LD = self._listed(list_L)
        products_NL = np.empty((len(self), len(list_L)), dtype=np.float32)
        for images, chunk in self._chunks():
            products_NL[images] = self._standardized(chunk) @ listed_LD.T
        return products_NL

    def gram(self, list_L: np.ndarray) -> np.ndarray:
        """(L, L) inner products of the standardized features of the images `list_L`."""
        listed_LD = self._listed(list_L)
        return listed_LD @ listed_LD.T
