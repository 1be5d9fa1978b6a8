"""Labelled crops for training: photos that people rated, as they are and distorted, and pristine photos, distorted.

Batch number i is a pure function of (photos, seed, i): workers make batches in any order, and a run that is resumed
sees what it would have seen. A rated photo's crop has its human score. A distorted crop of it has both: score and
damage add like independent damages do. Of a photo that nobody rated only the damage is known.

Shapes: B crops, T = types + 1, C classes, S scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from grmp_core.distortions import get
from grmp_core.imaging.views import at_least, at_most
from grmp_core.labels.human_means import PRISTINE_QUALITY, combined_quality, quality_of, quality_of_composition
from grmp_core.labels.visibility import Appearance, quality_of_picture
from grmp_core.nano.captions import SEVERITY_WORDS, severity_targets
from grmp_core.nano.content import scene_weights
from grmp_core.nano.photo_store import PhotoStore
from grmp_core.nano.sentences import TYPES
from grmp_core.seeds import generator_of

Parts = list[tuple[str, float]]
SIZE_PX = 224

_CHAIN = (
    (("lens_blur", "gaussian_blur"), 0.6),
    (("darken", "brighten", "mean_shift", "contrast", "saturation_hsv", "saturation_lab"), 0.55),
    (("white_noise", "white_noise_ycbcr", "multiplicative_noise"), 0.45),
    (("denoise",), 0.08),
    (("sharpen",), 0.12),
    (("jpeg",), 0.5),
)
"""(types, share of the chains that have one of them), in the order a camera applies them."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    rated: int = 22
    """Undistorted crops of rated photos in a batch."""
    distorted: int = 22
    pristine: int = 4
    """Undistorted crops of photos that nobody rated."""
    triplets: int = 0
    """One window of such a photo, three times: one distortion at three rising severities."""
    rated_sources: float = 0.6
    """Share of the distorted crops whose photo was rated."""
    good_score: float = 0.6
    """Photos rated below are not distorted further."""
    undistorted_score: float = 0.75
    """Photos rated above count as undistorted where types are asked for."""
    chains: float = 0.3
    """Share of the distorted crops with two or three distortions in a camera's order."""
    window_px: int = 272
    """Side of the piece that is distorted; the crop is cut from it, off any grid the distortion has."""
    shrunk: float = 0.5
    """Share of the rated photos that are first shrunk to a random size, down to `smallest_px`: their score is for all
    of the photo, and a crop's pixels are of no one size elsewhere."""
    smallest_px: int = 256
    """Shortest side of a shrunk photo."""
    balance: float = 0.5
    """Photos are drawn by the frequency of their score to the minus this: 0 as they come, 1 all scores alike."""

    def times(self, factor: int) -> CropConfig:
        """The same with `factor` times as many crops in a batch."""
        counts = {name: factor * getattr(self, name) for name in ("rated", "distorted", "pristine", "triplets")}
        return replace(self, **counts)


@dataclass(frozen=True)
class Batch:
    """Crops with what is known of them. Unknown: NaN, or a row of zeros."""

    images_BHWC: Tensor
    """uint8 RGB."""
    quality_B: Tensor
    """Human score, and what the damage leaves of it, in [0,1]."""
    fidelity_B: Tensor
    """Quality that the damage alone leaves, in [0,1]."""
    is_rated_B: Tensor
    """bool: an undistorted crop of a rated photo."""
    types_BT: Tensor
    severities_BK: Tensor
    classes_BC: Tensor
    """Probabilities that ImageNet's classifier gives the undistorted photo."""
    scenes_BS: Tensor
    triplets_T3: Tensor
    """Places of the triplets among the crops, mildest first; none unless `CropConfig.triplets` asks for them."""

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Content:
    """The teacher's predictions for the photos of a store, by number."""

    classes_NC: np.ndarray
    """Class probabilities of the whole photo."""
    table_CS: np.ndarray
    """Scenes of the classes."""


class CropBatches(Dataset[Batch]):
    """Item i is batch i. `numbers`: the photos of the store that training may see."""

    def __init__(
        self, store: PhotoStore, content: Content, numbers: np.ndarray, config: CropConfig, seed: int, length: int
    ) -> None:
        self.store, self.content, self.config, self.seed, self.length = store, content, config, seed, length
        scores = np.array([np.nan if row.score is None else row.score for row in store.rows])
        self.scores = scores
        self.rated = numbers[~np.isnan(scores[numbers])]
        self.unrated = numbers[np.isnan(scores[numbers])]
        self.good = self.rated[scores[self.rated] >= config.good_score]
        self.chances = balanced_chances(scores[self.rated], config.balance)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        config, rng = self.config, generator_of("crops", self.seed, index)
        rated = rng.choice(self.rated, config.rated, replace=False, p=self.chances)
        crops = [self._crop(int(n), [], rng) for n in rated]
        for _ in range(config.distorted):
            pool = self.good if rng.random() < config.rated_sources else self.unrated
            crops.append(self._crop(int(rng.choice(pool)), draw_parts(rng, config), rng))
        crops += [self._crop(int(rng.choice(self.unrated)), [], rng) for _ in range(config.pristine)]
        first = len(crops)
        for _ in range(config.triplets):
            crops += self._triplet(rng)
        return _stack(crops, torch.arange(first, len(crops)).view(-1, 3))

    def _triplet(self, rng: np.random.Generator) -> list[dict[str, object]]:
        """Mildest first; the same window and the same random stream for all three."""
        number, name, seed = int(rng.choice(self.unrated)), str(rng.choice(TYPES)), int(rng.integers(2**62))
        severities = np.sort(rng.uniform(1, 5, 3))
        return [self._crop(number, [(name, float(s))], np.random.default_rng(seed)) for s in severities]

    def _crop(self, number: int, parts: Parts, rng: np.random.Generator) -> dict[str, object]:
        photo = at_least(self.store.pixels(number), SIZE_PX)
        if not np.isnan(self.scores[number]) and rng.random() < self.config.shrunk:
            short_side = min(photo.shape[:2])
            photo = at_most(photo, int(rng.integers(min(self.config.smallest_px, short_side), short_side + 1)))
        side = self.config.window_px if parts else SIZE_PX
        window = _cut(photo, side, rng)
        score = float(self.scores[number])
        damage = PRISTINE_QUALITY
        if parts:
            distorted = apply_parts(window, parts, rng)
            damage = damage_label(window, distorted, parts)
            window = _cut(distorted, SIZE_PX, rng)
        rated, is_clean = not np.isnan(score), not parts
        unknown = is_clean and rated and score < self.config.undistorted_score
        classes = self.content.classes_NC[number].astype(np.float32)
        luma = float(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY).mean()) if is_clean else 255.0
        return {
            "images_BHWC": window[:, ::-1] if rng.random() < 0.5 else window,
            "quality_B": np.float32(score if is_clean else combined_quality([score, damage]) if rated else np.nan),
            "fidelity_B": np.float32(np.nan if is_clean and rated else damage),
            "is_rated_B": rated and is_clean,
            "types_BT": np.zeros(len(TYPES) + 1, np.float32) if unknown else type_targets(parts),
            "severities_BK": severity_weights(None if unknown else parts),
            "classes_BC": classes,
            "scenes_BS": scene_weights(classes[None], self.content.table_CS, np.array([luma]))[0],
        }


def balanced_chances(scores_N: np.ndarray, power: float, bins: int = 20) -> np.ndarray:
    """(N,) chances, adding up to 1, by the frequency of a photo's score to the minus `power`."""
    place = np.minimum((scores_N * bins).astype(int), bins - 1)
    weights = np.bincount(place, minlength=bins)[place].astype(np.float64) ** -power
    return weights / weights.sum()


def draw_parts(rng: np.random.Generator, config: CropConfig) -> Parts:
    """One type at any severity, or a chain of two or three as of a camera, mostly mild."""
    if rng.random() >= config.chains:
        return [(TYPES[int(rng.integers(len(TYPES)))], float(rng.uniform(1, 5)))]
    while True:
        parts = [
            (str(rng.choice(names)), 1 + 4 * float(rng.beta(1.1, 1.9)))
            for names, share in _CHAIN
            if rng.random() < share
        ]
        if 2 <= len(parts) <= 3:
            return parts


def apply_parts(image_HW3: np.ndarray, parts: Parts, rng: np.random.Generator) -> np.ndarray:
    """Apply (type, severity) one after the other."""
    for name, severity in parts:
        image_HW3 = get(name)(image_HW3, severity, rng)
    return image_HW3


def damage_label(window_HW3: np.ndarray, distorted_HW3: np.ndarray, parts: Parts) -> float:
    """Calibrated quality in [0,1] of the damage: of one distortion by how it shows on this picture, else by rule."""
    if len(parts) > 1:
        return quality_of_composition(parts)
    name, severity = parts[0]
    return quality_of_picture(name, severity, Appearance(window_HW3).differences(distorted_HW3))


def type_targets(parts: Parts) -> np.ndarray:
    """(T,) weights adding up to 1: of a composition every type by the quality it costs; the last: undistorted."""
    target = np.zeros(len(TYPES) + 1, dtype=np.float32)
    if not parts:
        target[-1] = 1
    for name, severity in parts:
        target[TYPES.index(name)] += max(PRISTINE_QUALITY - quality_of(name, severity), 0) + 0.02
    return target / target.sum()


def severity_weights(parts: Parts | None) -> np.ndarray:
    """(5·types + 1,) weights over the severity captions; zeros where unknown (None) and for compositions."""
    grades = len(SEVERITY_WORDS)
    target = np.zeros(len(TYPES) * grades + 1, dtype=np.float32)
    if parts is not None and not parts:
        target[-1] = 1
    if parts is not None and len(parts) == 1:
        name, severity = parts[0]
        start = TYPES.index(name) * grades
        target[start : start + grades] = severity_targets(np.array([severity]))[0]
    return target


def _cut(image_HW3: np.ndarray, side_px: int, rng: np.random.Generator) -> np.ndarray:
    height, width = (min(side_px, side) for side in image_HW3.shape[:2])
    top = int(rng.integers(image_HW3.shape[0] - height + 1))
    left = int(rng.integers(image_HW3.shape[1] - width + 1))
    return np.ascontiguousarray(image_HW3[top : top + height, left : left + width])


def _stack(crops: list[dict[str, Any]], triplets_T3: Tensor) -> Batch:
    columns = {name: torch.from_numpy(np.stack([crop[name] for crop in crops])) for name in crops[0]}
    return Batch(**columns, triplets_T3=triplets_T3)
