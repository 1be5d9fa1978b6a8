"""The shipped domain of the embedded backbone, on photos and other pictures that libraries carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import sklearn.datasets

from grmp_core.confidence.domain import Domain, domain_of
from grmp_core.imaging.decoding import decode_image
from grmp_core.model.backbone import load_backbone
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from pipelines.backbone_training.domain_asset import photo_statistics

PHOTOS = ("china.jpg", "flower.jpg", "astronaut.png", "coffee.png", "motorcycle_left.png")
PICTURES = ("page.png", "text.png", "logo.png", "color.png", "moon.png", "phantom.png")
FOLDERS = (Path(sklearn.datasets.__file__).parent / "images", Path(skimage.data.__file__).parent)


@pytest.fixture(scope="module")
def domain() -> Domain:
    found = domain_of(EMBEDDED, load_backbone(BackboneConfig()).weights_sha256)
    assert found is not None
    return found


def test_the_bound_of_held_out_photos_lies_between_photos_and_pictures(domain: Domain):
    backbone = load_backbone(BackboneConfig())
    files = [next(folder / name for folder in FOLDERS if (folder / name).exists()) for name in PHOTOS + PICTURES]
    statistics_NF = photo_statistics(backbone, map(decode_image, files))
    looks_N = domain.spaces[2](statistics_NF[:, : len(domain.spaces[2].mean_F)])[:, 0]
    photos, pictures = looks_N[: len(PHOTOS)], looks_N[len(PHOTOS) :]
    bound = np.quantile(domain.held_out_HS[:, 2], 0.95)
    assert photos.max() < bound < pictures.min()
