"""Procedural references: deterministic, and with what distortions need in order to be seen."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from grmp_core.errors import InputError
from grmp_core.procedural.scenes import reference, reference_id

SEEDS = range(16)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [reference(seed) for seed in SEEDS]


def spectrum_slope(image: np.ndarray) -> float:
    """Exponent of power against spatial frequency of the luminance."""
    side = min(image.shape[:2])
    grey = image[:side, :side].mean(axis=2)
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window[:, None] * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    edges = np.logspace(np.log10(3 / side), np.log10(0.45), 16)
    rings = [power[(frequency >= low) & (frequency < high)].mean() for low, high in itertools.pairwise(edges)]
    return float(stats.linregress(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(rings)).slope)


def detail(image: np.ndarray) -> float:
    return float(cv2.Laplacian(image, cv2.CV_64F).std())


def test_shape_and_type() -> None:
    assert reference(0).shape == (384, 512, 3)
    assert reference(1, 96, 80).shape == (96, 80, 3)
    assert reference(2).dtype == np.uint8


def test_same_seed_same_image_other_seed_other_image(images: list[np.ndarray]) -> None:
    for seed in range(4):
        np.testing.assert_array_equal(reference(seed), images[seed])
    small = np.stack([cv2.resize(image, (32, 24), interpolation=cv2.INTER_AREA) for image in images]).astype(float)
    apart = np.abs(small[:, None] - small[None]).mean(axis=(2, 3, 4))
    assert apart[~np.eye(len(images), dtype=bool)].min() > 10


def test_well_exposed_and_colourful(images: list[np.ndarray]) -> None:
    for image in images:
        assert 85 < image.mean() < 145
        assert np.mean((image <= 2) | (image >= 253)) < 0.05
        assert image.astype(float).std() > 25
        assert np.ptp(image.astype(int), axis=2).mean() > 15


def test_spectrum_is_that_of_natural_scenes(images: list[np.ndarray]) -> None:
    slopes = [spectrum_slope(image) for image in images]
    assert -2.7 < np.median(slopes) < -1.8
    assert min(slopes) > -3.3
    assert max(slopes) < -1.4


def test_sharp_edges_and_smooth_parts(images: list[np.ndarray]) -> None:
    for image in images:
        grey = image.mean(axis=2)
        steps = np.abs(np.diff(grey, axis=1))
        assert np.quantile(steps, 0.999) > 40
    smooth_share = [np.mean(np.abs(np.diff(image.mean(axis=2), axis=1)) < 2) for image in images]
    assert np.median(smooth_share) > 0.15


def test_distortions_show(images: list[np.ndarray]) -> None:
    for image in images:
        blurred = cv2.GaussianBlur(image, (0, 0), 2)
        assert detail(blurred) < 0.25 * detail(image)
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=7)
        blocky = np.asarray(Image.open(stream)).astype(float)
        assert np.abs(blocky - image).mean() > 4


def test_ids_are_unique_and_arguments_checked() -> None:
    assert len({reference_id(seed) for seed in range(1000)}) == 1000
    for arguments in ((-1,), (0, 32, 512), (0, 384, 32)):
        with pytest.raises(InputError, match="reference"):
            reference(*arguments)
