"""The ImageNet classifier against timm's network, and the material that it describes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from grmp_core.errors import InputError
from grmp_core.nano.groups import perceptual_hash
from grmp_core.nano.material import prepare
from grmp_core.nano.photo_store import PhotoStore, SourcePhoto
from grmp_core.nano.teacher import Teacher, normalize_clip, read_start_weights, teacher_view
from tests.grmp_core.model.test_nano_stem import first_map


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()


@pytest.fixture(scope="module")
def start_weights(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("start") / "lite0.pth"
    torch.save(network.state_dict(), path)
    return path


def test_the_teacher_is_the_whole_network(network, start_weights):
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8))
    logits, pooled = Teacher(read_start_weights(start_weights))(crops)
    with torch.inference_mode():
        last = network.blocks(first_map(network, normalize_clip(crops)))
        expected = network.forward_head(network.bn2(network.conv_head(last)))
        last = last.mean(dim=(2, 3))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pooled, last, atol=1e-4, rtol=1e-4)


def test_start_weights_of_another_network_are_refused(tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(InputError, match="does not hold EfficientNet-Lite0"):
        read_start_weights(other)
    with pytest.raises(InputError, match="do not exist"):
        read_start_weights(tmp_path / "nothing.pth")


@pytest.mark.parametrize("shape", [(500, 300), (100, 180), (224, 224)])
def test_the_view_is_the_middle_square(shape):
    image = np.zeros((*shape, 3), np.uint8)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    image[top : top + side, left : left + side] = 200
    view = teacher_view(image)
    assert view.shape == (224, 224, 3)
    assert int(view.min()) == 200


def test_prepared_material_is_what_the_teacher_says_of_each_photo(start_weights, photo_files, tmp_path):
    photos = [SourcePhoto(path=path, source="some", score=0.5) for path in photo_files[:3]]
    assert prepare(tmp_path / "material", photos, start_weights) == []
    store, teacher = PhotoStore(tmp_path / "material"), Teacher(read_start_weights(start_weights)).bfloat16()
    views = np.stack([teacher_view(store.pixels(number)) for number in range(3)])
    logits, _ = teacher(torch.from_numpy(views))
    classes = np.load(tmp_path / "material" / "classes.npy")
    np.testing.assert_allclose(classes, logits.softmax(dim=-1), atol=1e-3)
    hashes = np.load(tmp_path / "material" / "hashes.npy")
    assert hashes[1] == perceptual_hash(store.pixels(1))
