"""Make the domain of a backbone from statistics of photos and of pictures that no camera took.

Apart from `domain`, since scoring an image has no need of scikit-learn.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from grmp_core.confidence.domain import Domain, Space, nearest, parts_of

EARLY_DIMENSIONS, LATE_DIMENSIONS = 16, 32
"""Principal components kept of each space."""
PENALTY = 100.0
"""Of squared weights of the direction that tells pictures from photos."""


def fit_domain(
    references_RF: np.ndarray,
    held_out_HF: np.ndarray,
    pictures_PF: np.ndarray,
    early_size: int,
    weights_sha256: str,
) -> Domain:
    """The domain of R reference photos and H held-out ones, by F statistics of which `early_size` are early.

    Args:
        pictures_PF: of pictures that are no photos; the third space tells them from the reference photos.
    """
    early, late, _ = parts_of(references_RF, early_size)
    spaces = (
        Space.whitened(early, EARLY_DIMENSIONS),
        Space.whitened(late, LATE_DIMENSIONS),
        made_direction(early, pictures_PF[:, :early_size]),
    )
    references, new = (
        [space(part) for space, part in zip(spaces, parts_of(statistics, early_size), strict=True)]
        for statistics in (references_RF, held_out_HF)
    )
    kept = tuple(points_RK.astype(np.float16) for points_RK in references)
    held_out = [nearest(new[0], kept[0]), nearest(new[1], kept[1]), new[2][:, 0]]
    return Domain(weights_sha256=weights_sha256, spaces=spaces, references=kept, held_out_HS=np.stack(held_out, axis=1))


def made_direction(photos_RD: np.ndarray, pictures_PD: np.ndarray) -> Space:
    """The one direction that tells pictures from photos best, pictures higher: logistic regression, balanced."""
    both = np.concatenate([photos_RD, pictures_PD]).astype(np.float64)
    scaler = StandardScaler().fit(both)
    is_picture = np.arange(len(both)) >= len(photos_RD)
    model = LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=3000)
    weights_1D = model.fit(scaler.transform(both), is_picture).coef_
    return Space(mean_F=scaler.mean_, map_KF=weights_1D / scaler.scale_)
