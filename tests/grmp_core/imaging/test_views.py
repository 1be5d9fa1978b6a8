"""Views: where they are cut and that they follow their seed."""

from __future__ import annotations

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging import views as view_cutting
from grmp_core.imaging.decoding import decode_image
from grmp_core.imaging.views import ViewConfig, scoring_views, training_views, whole_grid
from tests.grmp_core.imaging import pictures


def ramp(height: int, width: int) -> np.ndarray:
    """Every pixel says where it is: red its row, green its column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    return image


def corner(view: np.ndarray) -> tuple[int, int]:
    return int(view[0, 0, 0]), int(view[0, 0, 1])


def test_the_scoring_grid_reaches_the_corners_at_native_resolution():
    views = scoring_views(ramp(100, 140), ViewConfig(score_grid=2), 40)
    assert [corner(view) for view in views] == [(0, 0), (0, 100), (60, 0), (60, 100)]
    assert corner(scoring_views(ramp(100, 140), ViewConfig(score_grid=1), 40)[0]) == (30, 50)


def photo_like(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coarse and fine detail together, fine enough to be folded back by a resize without a filter."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = 60 * np.sin(rows / 17)[..., None] + 40 * np.sin(
        (rows + 2 * columns) / np.array([1.1, 1.7, 2.3])[:, None, None]
    ).transpose(1, 2, 0)
    return np.clip(128 + waves + rng.normal(0, 25, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(500, 700), (1003, 640), (90, 120)])
def test_official_views_are_cut_from_a_bicubic_stretch_without_a_filter(height, width):
    """Against torch's bicubic interpolation: the same kernel, the same places, the same edges."""
    image = photo_like(height, width)
    config = ViewConfig(mode="official", score_grid=2)
    top_left, _, _, bottom_right = scoring_views(image, config, 224)
    wide = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    stretched = F.interpolate(wide, (244, 244), mode="bicubic", align_corners=False, antialias=False)[0]
    expected = stretched.permute(1, 2, 0).round().clamp(0, 255).numpy()
    for view, crop in ((top_left, expected[:224, :224]), (bottom_right, expected[20:, 20:])):
        assert np.abs(view - crop).max() <= 1
        assert np.mean(view != crop) < 0.02
    centre = scoring_views(image, ViewConfig(mode="official", score_grid=1), 224)[0]
    assert np.abs(centre - expected[10:234, 10:234]).max() <= 1


def test_official_views_keep_detail_that_a_filtered_stretch_takes_away():
    image = photo_like(500, 700)
    official = scoring_views(image, ViewConfig(mode="official", score_grid=1), 224)[0]
    filtered = cv2.resize(image, (244, 244), interpolation=cv2.INTER_AREA)[10:234, 10:234]
    detail = [cv2.Laplacian(cv2.cvtColor(v, cv2.COLOR_RGB2GRAY), cv2.CV_64F).std() for v in (official, filtered)]
    assert detail[0] > 1.4 * detail[1]


@given(st.integers(40, 60), st.integers(40, 60), st.integers(1, 5))
def test_any_picture_has_different_views_and_fills_the_grid_evenly(height, width, score_grid):
    config = ViewConfig(score_grid=score_grid)
    views = scoring_views(ramp(height, width), config, 40)
    assert len({corner(view) for view in views}) == len(views)
    whole = whole_grid(views, config)
    assert len(whole) == score_grid**2
    np.testing.assert_allclose(whole.mean(axis=0), views.mean(axis=0), atol=1e-9)


def test_no_room_along_a_side_is_one_position_in_its_middle():
    assert [corner(view) for view in scoring_views(ramp(41, 140), ViewConfig(score_grid=3), 40)] == [
        (0, 0),
        (0, 50),
        (0, 100),
    ]


def test_training_views_are_crops_or_their_mirror_images():
    image = ramp(100, 140)
    views = training_views(image, ViewConfig(train_views=40), 40, "photo", 1)
    flipped = 0
    for view in views:
        mirrored = view[0, 0, 1] > view[0, 1, 1]
        flipped += bool(mirrored)
        top, left = corner(view[:, ::-1] if mirrored else view)
        crop = image[top : top + 40, left : left + 40]
        assert np.array_equal(view, crop[:, ::-1] if mirrored else crop)
    assert 8 < flipped < 32
    assert len({corner(view) for view in views}) > 30


@pytest.mark.parametrize("mode", ["crops", "resize", "official"])
def test_views_follow_their_seed(mode):
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    config = ViewConfig(mode=mode)
    assert np.array_equal(training_views(image, config, 32, "a"), training_views(image, config, 32, "a"))
    assert not np.array_equal(training_views(image, config, 32, "a"), training_views(image, config, 32, "b"))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["crops", "resize", "official"]), st.integers(1, 3))
def test_any_picture_gives_views_of_the_right_size(height, width, mode, grid):
    config = ViewConfig(mode=mode, score_grid=grid)
    image = np.full((height, width, 3), 77, np.uint8)
    for views in (training_views(image, config, 32, 0), scoring_views(image, config, 32)):
        assert views.shape[1:] == (32, 32, 3)
        assert (views == 77).all()


@pytest.mark.parametrize("bad", [{"mode": "zoom"}, {"train_views": 0}, {"score_grid": 0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError):
        ViewConfig(**bad)


@pytest.mark.parametrize("mode", ["crops", "resize"])
@pytest.mark.parametrize("shape", [(2, 600_000), (600_000, 2)])
def test_thin_strips_are_refused_before_they_are_enlarged(mode, shape, monkeypatch):
    strip = np.zeros((*shape, 3), np.uint8)
    config = ViewConfig(mode=mode)
    monkeypatch.setattr(view_cutting.cv2, "resize", None)
    for make in (scoring_views, training_views):
        with pytest.raises(ImageError, match=f"too thin: {shape[1]}x{shape[0]} with its short side enlarged to 224"):
            make(strip, config, 224)
    with pytest.raises(ImageError, match="too thin"):
        view_cutting.at_least(strip, 224)


def test_strips_within_the_limit_are_scored(monkeypatch):
    monkeypatch.setattr(view_cutting, "MAX_ENLARGED_PX", 32 * 320)
    assert view_cutting.at_least(np.zeros((4, 40, 3), np.uint8), 32).shape == (32, 320, 3)
    with pytest.raises(ImageError, match=r"41x4 .* is 10496 pixels, more than 10240"):
        view_cutting.at_least(np.zeros((4, 41, 3), np.uint8), 32)
    assert view_cutting.at_least(np.zeros((32, 5000, 3), np.uint8), 32).shape == (32, 5000, 3)


def test_a_stretch_has_one_size_whatever_the_shape():
    assert scoring_views(np.zeros((2, 600_000, 3), np.uint8), ViewConfig(mode="official"), 224).shape[1:] == (
        224,
        224,
        3,
    )


@pytest.mark.parametrize("mode", ["crops", "resize", "official"])
@pytest.mark.parametrize("shape", [(90, 70), (20, 90)])
def test_views_of_a_file_are_those_of_its_pixels(mode, shape):
    config = ViewConfig(mode=mode)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    decoded = decode_image(pictures.encoded(image, "PNG"))
    assert np.array_equal(scoring_views(decoded, config, 32), scoring_views(image, config, 32))
    assert np.array_equal(training_views(decoded, config, 32, "a"), training_views(image, config, 32, "a"))
