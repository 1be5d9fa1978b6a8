"""Held-out predictions and looks of a model's labelled images: the ground of its intervals and refusals.

One small file of a bundle. Shapes: N labelled images, F statistics of an image's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from grmp_core.errors import InputError

MAX_STATISTICS = 512
"""Labelled images whose statistics are kept, at most; more make no better reference."""
_NAMES = ("predicted_N", "quality_N", "statistics_MF", "groups_M")
_LAYOUT = "layout_2"


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Held-out predictions of labelled images, and the looks of these images."""

    predicted_N: np.ndarray
    """Quality in [0, 1] from a model that has not learned from the image, trained for as many epochs as the held-out
    images of the other folds chose; float32 (N,)."""
    quality_N: np.ndarray
    """The labels in [0, 1], float32 (N,)."""
    statistics_MF: np.ndarray
    """Token statistics of the labelled images, or of 512 of more, as `model.token_statistics` has them; float16
    (M, F)."""
    groups_M: np.ndarray
    """Number of the reference that an image shows; int64 (M,)."""
    early_size: int
    """Statistics, from the first on, that are of tokens before the first block."""
    deep: bool
    """Whether the others are of pooled tokens after the last block."""

    @classmethod
    def of(
        cls,
        predicted_N: np.ndarray,
        quality_N: np.ndarray,
        statistics_NF: np.ndarray,
        reference_ids: tuple[str, ...],
        *,
        early_size: int,
        deep: bool,
    ) -> Evidence:
        """All rows are of the same N labelled images."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(reference_ids))}
        groups_N = np.array([numbers[name] for name in reference_ids], dtype=np.int64)
        kept = np.unique(np.linspace(0, len(groups_N) - 1, min(len(groups_N), MAX_STATISTICS)).round().astype(int))
        return cls(
            predicted_N=np.asarray(predicted_N, dtype=np.float32),
            quality_N=np.asarray(quality_N, dtype=np.float32),
            statistics_MF=np.asarray(statistics_NF, dtype=np.float16)[kept],
            groups_M=groups_N[kept],
            early_size=early_size,
            deep=deep,
        )

    @property
    def residuals(self) -> np.ndarray:
        """Label minus held-out prediction, float64 (N,)."""
        return self.quality_N.astype(np.float64) - self.predicted_N

    def to_bytes(self) -> bytes:
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _NAMES}
        return save(arrays | {_LAYOUT: np.array([self.early_size, int(self.deep)])})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Evidence:
        """InputError for a file that `to_bytes` has not made; `where` names it."""
        try:
            arrays = load(data)
            early_size, deep = arrays[_LAYOUT].tolist()
            return cls(**{name: arrays[name] for name in _NAMES}, early_size=early_size, deep=bool(deep))
        except (KeyError, ValueError, SafetensorError) as error:
            raise InputError(f"{where} is damaged ({type(error).__name__}: {error}); adapt the model again") from error
