"""The training domain of a backbone as the package ships it: how its photos look to it, and how others compare."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from grmp_core.confidence.domain import Domain
from grmp_core.confidence.domain_fit import fit_domain
from grmp_core.imaging.views import Pixels, ViewConfig, scoring_views, whole_grid
from grmp_core.model.backbone import Backbone
from grmp_core.model.features import normalize
from grmp_core.model.token_statistics import token_statistics
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.nano.crops import apply_parts
from grmp_core.nano.material import RATED, Material
from grmp_core.nano.sentences import TYPES
from grmp_core.procedural.made_pictures import MADE_KINDS, made_picture

PLAIN, DISTORTED, SHRUNK, HELD_OUT = 300, 150, 100, 300
"""Reference photos as they are, with a distortion of training, and at 50 to 100 % of their size; photos held out."""
PICTURES = 120
"""Made by script, of each kind."""
_SEED = 11


def write_domain(backbone: Backbone, material: Material, file: Path) -> Domain:
    """Measure reference and held-out photos of the material, and made pictures, and write what `domain_of` reads."""
    rng = np.random.default_rng(_SEED)
    references = rng.permutation(material.training)[: PLAIN + DISTORTED + SHRUNK]
    held_out = rng.permutation(material.validation(RATED))[:HELD_OUT]
    reference_RF = photo_statistics(backbone, _references(material, references, rng))
    held_out_HF = photo_statistics(backbone, (material.store.pixels(int(n)) for n in held_out))
    pictures = (made_picture(kind, seed) for kind in MADE_KINDS for seed in range(PICTURES))
    picture_PF = photo_statistics(backbone, pictures)
    width = open_vision_tower(backbone.clip).width
    domain = fit_domain(reference_RF, held_out_HF, picture_PF, width, backbone.weights_sha256)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(domain.to_bytes())
    os.replace(temporary, file)
    return domain


def _references(material: Material, numbers: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for i, number in enumerate(numbers):
        photo = material.store.pixels(int(number))
        if i < PLAIN:
            yield photo
        elif i < PLAIN + DISTORTED:
            yield apply_parts(photo, [(str(rng.choice(TYPES)), float(rng.uniform(1, 5)))], rng)
        else:
            scale = float(rng.uniform(0.5, 1))
            yield cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


@torch.inference_mode()
def photo_statistics(backbone: Backbone, photos: Iterable[Pixels], grid: int = 3) -> np.ndarray:
    """(N, F) deep token statistics of photos, means over grid x grid native crops."""
    tower, views = open_vision_tower(backbone.clip), ViewConfig(score_grid=grid)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (backbone.mean, backbone.std))
    dtype = next(backbone.clip.parameters()).dtype
    rows = []
    for photo in photos:
        crops = torch.from_numpy(whole_grid(scoring_views(photo, views, backbone.image_size_px), views))
        tokens_VND = tower.embed(normalize(crops, mean, std).to(dtype))
        rows.append(token_statistics(tower, tokens_VND, deep=True).mean(dim=0).numpy())
    return np.stack(rows)
