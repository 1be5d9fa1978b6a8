"""Training crops: pure functions of their seed, labels that say what was done, nothing held out in training."""

import cv2
import numpy as np
import pytest

from grmp_core.distortions import KADID_NAMES
from grmp_core.labels.human_means import PRISTINE_QUALITY, quality_of, quality_of_composition
from grmp_core.labels.own_quality import ATTRIBUTES, UNDISTORTED_QUALITY, attributes
from grmp_core.nano import captions
from grmp_core.nano.training_crops import (
    TYPES,
    CropConfig,
    Photo,
    cut_window,
    draw_parts,
    held_out,
    load_photos,
    make_batch,
    overall_quality,
    quality_of_parts,
    severity_targets,
    type_targets,
)

SMALL = CropConfig(size_px=64, window_px=(72, 80))


def photos(count: int = 3) -> list[Photo]:
    rng = np.random.default_rng(0)
    sizes = [(90, 120), (120, 90), (40, 50)]
    return [Photo(rng.integers(0, 256, (*sizes[i % 3], 3), dtype=np.uint8), i, -1) for i in range(count)]


def test_every_published_type_has_captions_and_no_other():
    assert sorted(TYPES) == sorted(KADID_NAMES)


def test_a_batch_depends_on_seed_and_index_alone():
    first, again = (make_batch(photos(), 10, SMALL, 5, 3) for _ in range(2))
    other = make_batch(photos(), 10, SMALL, 5, 4)
    assert (first.images_BHWC == again.images_BHWC).all()
    assert (first.quality_B == again.quality_B).all()
    assert (first.images_BHWC != other.images_BHWC).any()


def test_shapes_and_ranges_of_a_batch():
    batch = make_batch(photos(), 11, SMALL, 0, 0)
    assert tuple(batch.images_BHWC.shape) == (11, 64, 64, 3)
    for values in (batch.quality_B, batch.fidelity_B, batch.attributes_BA):
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1
    assert tuple(batch.attributes_BA.shape) == (11, len(ATTRIBUTES))
    np.testing.assert_allclose(batch.types_BT.sum(dim=1), 1, rtol=1e-5)
    assert batch.severities_BK.shape[1] == len(captions.severity_captions(TYPES))


def test_labels_and_attributes_of_a_batch_are_those_of_its_own_images():
    batch = make_batch(photos(), 40, SMALL, 0, 0)
    undistorted = batch.types_BT[:, -1] == 1
    assert undistorted.any(), "no undistorted window among them"
    assert (batch.fidelity_B[undistorted] == np.float32(UNDISTORTED_QUALITY)).all()
    assert (batch.quality_B <= batch.fidelity_B + 1e-6).all(), "a photo's own quality never adds to it"
    assert (batch.quality_B < batch.fidelity_B - 0.01).any()
    for image, found in zip(batch.images_BHWC.numpy(), batch.attributes_BA.numpy(), strict=True):
        np.testing.assert_allclose(found, attributes(image), atol=1e-6)


def test_shares_of_clean_single_and_composed_windows():
    rng, config = np.random.default_rng(0), CropConfig(clean=0.2, single=0.5)
    counts = np.bincount([len(draw_parts(rng, config)) for _ in range(4000)], minlength=4) / 4000
    assert counts[0] == pytest.approx(0.2, abs=0.03)
    assert counts[1] == pytest.approx(0.5, abs=0.03)
    assert len(counts) == 4


def test_labels_are_the_calibrated_ones():
    assert quality_of_parts([]) == UNDISTORTED_QUALITY
    assert quality_of_parts([("jpeg", 3.5)]) == quality_of("jpeg", 3.5)
    parts = [("lens_blur", 2.0), ("white_noise", 1.5)]
    assert quality_of_parts(parts) == quality_of_composition(parts)


def test_a_photos_own_quality_and_its_damage_add_like_two_damages():
    assert overall_quality([], 0.6) == 0.6, "an undistorted photo is what it is"
    jpeg = [("jpeg", 4.0)]
    assert overall_quality(jpeg, 0.93) == pytest.approx(quality_of("jpeg", 4.0)), "nothing to add"
    expected = PRISTINE_QUALITY / (
        1 + np.hypot(PRISTINE_QUALITY / 0.6 - 1, PRISTINE_QUALITY / quality_of("jpeg", 4.0) - 1)
    )
    assert overall_quality(jpeg, 0.6) == pytest.approx(expected)
    assert overall_quality(jpeg, 0.6) < min(0.6, quality_of("jpeg", 4.0))


def test_targets_of_a_single_distortion_point_at_its_captions():
    index = TYPES.index("motion_blur")
    assert type_targets([("motion_blur", 4.0)]).nonzero()[0].tolist() == [index]
    severity = severity_targets([("motion_blur", 4.0)])
    assert severity.nonzero()[0].tolist() == [5 * index + 3]
    assert captions.severity_captions(TYPES)[5 * index + 3] == "a photo with strong motion blur"


def test_targets_of_clean_and_composed_windows():
    assert type_targets([])[-1] == 1
    assert severity_targets([])[-1] == 1
    composed = [("lens_blur", 5.0), ("jpeg", 1.0)]
    assert severity_targets(composed).sum() == 0
    weights = type_targets(composed)
    assert weights.sum() == pytest.approx(1)
    assert weights[TYPES.index("lens_blur")] > weights[TYPES.index("jpeg")] > 0


def test_a_window_keeps_to_the_photos_orientation_and_enlarges_small_ones():
    rng = np.random.default_rng(1)
    wide, tall, small = photos()
    assert cut_window(wide.pixels_HW3, SMALL, rng).shape == (72, 80, 3)
    assert cut_window(tall.pixels_HW3, SMALL, rng).shape == (80, 72, 3)
    assert min(cut_window(small.pixels_HW3, SMALL, rng).shape[:2]) == 72


def test_training_and_validation_photos_are_disjoint_and_complete(tmp_path):
    rng = np.random.default_rng(2)
    for index in range(60):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"n{index:08d}_thing_{index}.png"), pixels)
    training = load_photos([str(tmp_path)], 0)
    validation = load_photos([str(tmp_path)], 0, validation=True)
    expected = sum(held_out(path) for path in tmp_path.iterdir())
    assert len(validation.photos) == expected > 0
    assert len(training.photos) == 60 - expected
    assert training.class_words == validation.class_words
    assert not {p.class_index for p in training.photos} & {p.class_index for p in validation.photos}
