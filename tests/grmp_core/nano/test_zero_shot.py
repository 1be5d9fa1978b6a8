"""Features of the image tower against open_clip, and means over views."""

import numpy as np
import pytest
import torch

from grmp_core.model.features import ImageFeatures, image_features


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
