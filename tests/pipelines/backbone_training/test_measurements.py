from __future__ import annotations

import numpy as np
import pytest

from pipelines.backbone_training.measurements import PhotoNumbers, _batched, _in_other_groups, _mean_of, few_label_srcc


def test_batches_keep_order_and_number():
    views = [np.full((4, 1), i) for i in range(7)]
    batches = list(_batched(iter(views), 8))
    assert [len(batch) for batch in batches] == [8, 8, 8, 4]
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(views))
    np.testing.assert_array_equal(_mean_of(np.concatenate(batches), 4).ravel(), np.arange(7))


def test_ridge_on_the_residual_keeps_what_the_score_knows_and_adds_what_features_know():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 5))
    quality = rng.random(300)
    scores = 2 * quality + 0.5 * features[:, 0]
    groups = np.arange(300)
    useless = PhotoNumbers(quality, rng.normal(size=(300, 5)))
    known = PhotoNumbers(quality, features)
    plain, residual = (few_label_srcc(known, scores, groups, 50, residual=r)[0] for r in (False, True))
    assert residual > 0.97
    assert plain < 0.8
    assert few_label_srcc(useless, scores, groups, 50, residual=True)[0] == pytest.approx(0.75, abs=0.12)


def test_no_photo_of_a_labelled_group_is_tested():
    groups = np.array([0, 0, 1, 2, 2, 3])
    assert _in_other_groups(groups, np.array([1, 3])).tolist() == [False, False, True, False, False, True]
