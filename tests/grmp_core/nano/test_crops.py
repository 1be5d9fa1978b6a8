from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch

from grmp_core.distortions import KADID_NAMES, get
from grmp_core.labels.human_means import PRISTINE_QUALITY, combined_quality
from grmp_core.nano.crops import (
    SIZE_PX,
    CropBatches,
    CropConfig,
    apply_parts,
    balanced_chances,
    draw_parts,
    severity_weights,
    type_targets,
)
from grmp_core.nano.photo_store import PhotoStore, SourcePhoto, write_store
from grmp_core.nano.sentences import HELD_OUT_TYPES, TYPES
from tests.grmp_core.nano.conftest import SCORES, SMALL_BATCH


@pytest.fixture
def batches(store, content) -> CropBatches:
    return CropBatches(store, content, np.arange(len(store)), SMALL_BATCH, 3, 100)


def test_held_out_types_leave_no_family_empty_and_are_never_drawn():
    families = {get(name).group for name in KADID_NAMES}
    assert {get(name).group for name in TYPES} == families
    assert len({get(name).group for name in HELD_OUT_TYPES}) >= 4
    rng = np.random.default_rng(0)
    drawn = {name for _ in range(2000) for name, _ in draw_parts(rng, CropConfig())}
    assert drawn == set(TYPES)


def test_a_batch_follows_from_seed_and_index_alone(batches, store, content):
    again = CropBatches(store, content, np.arange(len(store)), SMALL_BATCH, 3, 100)
    again[0]
    first, second = batches[7], again[7]
    for field in fields(first):
        mine, theirs = getattr(first, field.name), getattr(second, field.name)
        torch.testing.assert_close(mine, theirs, equal_nan=True, atol=0, rtol=0)
    assert not torch.equal(first.images_BHWC, batches[8].images_BHWC)
    assert first.images_BHWC.shape == (7, SIZE_PX, SIZE_PX, 3)


def test_triplets_are_one_photo_at_rising_severity_behind_the_same_other_crops(batches, store, content):
    config = replace(SMALL_BATCH, triplets=2)
    plain, more = batches[7], CropBatches(store, content, np.arange(len(store)), config, 3, 100)[7]
    assert plain.triplets_T3.shape == (0, 3)
    assert torch.equal(more.images_BHWC[:7], plain.images_BHWC)
    assert more.triplets_T3.tolist() == [[7, 8, 9], [10, 11, 12]]
    for places in more.triplets_T3:
        assert len(more.classes_BC[places].unique(dim=0)) == 1
        assert len(more.types_BT[places].argmax(dim=1).unique()) == 1
        severities = (more.severities_BK[places] * torch.arange(more.severities_BK.shape[1])).sum(dim=1)
        assert (severities.diff() > 0).all()
        assert torch.isfinite(more.fidelity_B[places]).all()


def test_rated_photos_come_at_random_sizes_and_keep_their_score(tmp_path, content):
    """Stripes of 8 px show 28 periods in 224 px at native size, and more in a shrunk photo."""
    stripes = np.where((np.arange(448) // 4 % 2 == 0)[None, :, None], 255, 0) * np.ones((448, 1, 3))
    cv2.imwrite(str(tmp_path / "stripes.png"), stripes.astype(np.uint8))
    photo = SourcePhoto(path=tmp_path / "stripes.png", source="some", score=0.5)
    write_store(tmp_path / "store", [photo])

    def periods(shrunk: float) -> list[int]:
        config = CropConfig(rated=1, distorted=0, pristine=0, shrunk=shrunk, smallest_px=256)
        batches = CropBatches(PhotoStore(tmp_path / "store"), content, np.arange(1), config, 0, 20)
        assert all(batches[i].quality_B.tolist() == [0.5] for i in range(20))
        rows = [batches[i].images_BHWC[0].float().mean(dim=(0, 2)).numpy() for i in range(20)]
        return [int(np.abs(np.fft.rfft(row - row.mean())).argmax()) for row in rows]

    assert set(periods(0.0)) == {28}
    shrunk = periods(1.0)
    assert len(set(shrunk)) > 5
    assert min(shrunk) >= 28
    assert max(shrunk) <= 49  # 28 x 448 / 256


def test_what_is_known_of_rated_distorted_and_pristine_crops(batches):
    for index in range(6):
        batch = batches[index]
        rated, distorted, pristine = slice(0, 3), slice(3, 6), slice(6, 7)
        assert batch.is_rated_B.tolist() == [True] * 3 + [False] * 4
        known_scores = torch.tensor([score for score in SCORES if score is not None])
        assert bool(torch.isin(batch.quality_B[rated], known_scores).all())
        assert bool(batch.fidelity_B[rated].isnan().all())
        assert not bool(batch.fidelity_B[distorted].isnan().any())
        assert float(batch.fidelity_B[pristine]) == pytest.approx(PRISTINE_QUALITY)
        assert bool(batch.quality_B[pristine].isnan().all())
        assert batch.types_BT[pristine, -1].tolist() == [1]
        assert not bool(batch.types_BT[distorted, -1].any())
        unknown = batch.quality_B[rated] < SMALL_BATCH.undistorted_score
        assert (batch.types_BT[rated].sum(dim=1) == 0).tolist() == unknown.tolist()


def test_a_damaged_photo_is_worth_less_than_before_and_than_its_damage(batches):
    for index in range(10):
        batch = batches[index]
        both = ~batch.quality_B.isnan() & ~batch.is_rated_B
        assert bool((batch.quality_B[both] <= batch.fidelity_B[both].clamp(max=PRISTINE_QUALITY) + 1e-6).all())
    assert combined_quality([0.7, 0.5]) < 0.5


def test_photos_that_are_rated_low_are_not_distorted_further(batches):
    assert bool((batches.scores[batches.good] >= SMALL_BATCH.good_score).all())
    assert len(batches.good) == 4


def test_chances_by_the_frequency_of_scores():
    scores = np.array([0.71, 0.72, 0.73, 0.74, 0.12])
    np.testing.assert_allclose(balanced_chances(scores, 0), 1 / 5)
    np.testing.assert_allclose(balanced_chances(scores, 1), [1 / 8] * 4 + [1 / 2])
    np.testing.assert_allclose(balanced_chances(scores, 0.5), [1 / 6] * 4 + [1 / 3])


def test_targets_of_types_and_severities():
    assert type_targets([])[-1] == 1
    composed = type_targets([("jpeg", 5.0), ("darken", 1.0)])
    assert composed.sum() == pytest.approx(1)
    assert composed[TYPES.index("jpeg")] > composed[TYPES.index("darken")] > 0
    single = severity_weights([("jpeg", 2.25)])
    start = 5 * TYPES.index("jpeg")
    np.testing.assert_allclose(single[start : start + 5], [0, 0.75, 0.25, 0, 0])
    assert single.sum() == 1
    assert severity_weights([])[-1] == 1
    assert not severity_weights([("jpeg", 2.0), ("darken", 2.0)]).any()
    assert not severity_weights(None).any()


def test_parts_are_applied_in_order():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = apply_parts(image, [("darken", 3.0), ("jpeg", 4.0)], np.random.default_rng(1))
    expected = get("jpeg")(get("darken")(image, 3.0, np.random.default_rng(1)), 4.0, np.random.default_rng(1))
    np.testing.assert_array_equal(found, expected)
