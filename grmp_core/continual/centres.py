"""Centres of a set's images for the gate; apart from it, since scoring needs no scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from grmp_core.seeds import narrow_seed


def centres_of(features_NE: np.ndarray, centres: int, seed: int) -> Tensor:
    """(K, E) float32 centres of N images by K-means; K is `centres`, or how many different images there are."""
    different = len(np.unique(features_NE, axis=0))
    kmeans = KMeans(min(centres, different), n_init=4, random_state=narrow_seed(seed))
    fitted = kmeans.fit(features_NE.astype(np.float64))
    return torch.from_numpy(fitted.cluster_centers_.astype(np.float32))
