"""The linear probe against the normal equations, and means over views."""

import numpy as np
import pytest
import torch

from grmp_core.evaluation.ridge import probe_srcc, ridge
from grmp_core.model.features import ImageFeatures, image_features


def test_ridge_finds_a_linear_map_again():
    rng = np.random.default_rng(0)
    train, test = rng.normal(2, 3, (200, 5)), rng.normal(2, 3, (20, 5))
    weights = rng.normal(size=5)
    np.testing.assert_allclose(ridge(train, train @ weights + 7, test), test @ weights + 7, atol=1e-3)


def test_ridge_predicts_the_mean_where_features_say_nothing():
    rng = np.random.default_rng(1)
    predicted = ridge(rng.normal(size=(40, 30)), rng.normal(5, 1, 40), rng.normal(size=(10, 30)))
    np.testing.assert_allclose(predicted, 5, atol=0.8)


def test_ridge_with_more_features_than_rows_solves_the_regularized_normal_equations():
    rng = np.random.default_rng(2)
    train, target, test = rng.normal(size=(12, 40)), rng.normal(size=12), rng.normal(size=(3, 40))
    x = (train - train.mean(0)) / (train.std(0) + 1e-6)
    y = (test - train.mean(0)) / (train.std(0) + 1e-6)
    candidates = [
        y @ np.linalg.solve(x.T @ x + s * np.eye(40), x.T @ (target - target.mean())) + target.mean()
        for s in np.logspace(-2, 5, 29)
    ]
    assert min(np.abs(c - ridge(train, target, test)).max() for c in candidates) < 1e-8


def test_probe_ranks_unseen_images_by_a_feature_that_tells():
    rng = np.random.default_rng(3)
    quality = rng.random(200)
    features = np.stack([quality + 0.05 * rng.normal(size=200), rng.normal(size=200)], axis=1)
    values = probe_srcc(features, quality, [f"photo{i}" for i in range(200)], 30, num_splits=3)
    assert len(values) == 3
    assert values.min() > 0.9
    shuffled = probe_srcc(rng.normal(size=(200, 2)), quality, [f"photo{i}" for i in range(200)], 30, num_splits=3)
    assert abs(np.median(shuffled)) < 0.5


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny-timm"])
def test_projected_features_are_open_clips(make_backbone, name):
    backbone = make_backbone(name)
    crops = np.random.default_rng(0).integers(0, 256, (2, backbone.image_size_px, backbone.image_size_px, 3), np.uint8)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (backbone.mean, backbone.std))
    images = (torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        expected = backbone.clip.encode_image(images, normalize=True)
    torch.testing.assert_close(image_features(backbone, [crops]).unit_NE, expected, atol=1e-5, rtol=0)


def test_features_of_a_picture_are_the_mean_of_its_views():
    values = np.arange(10.0).reshape(5, 2)
    features = ImageFeatures(values, torch.from_numpy(values), (1, 3, 1))
    np.testing.assert_array_equal(features.batch_means(values), [values[0], values[1:4].mean(axis=0), values[4]])
