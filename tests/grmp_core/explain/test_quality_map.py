"""Maps of quality with scores that are known: the mean brightness of a crop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grmp_core.errors import ImageError
from grmp_core.explain.quality_map import JudgeCrops, QualityMap, quality_map
from grmp_core.explain.settings import MapConfig

SIZE = 32


def brightness(crops_CHW3: np.ndarray) -> np.ndarray:
    """(C, 2): brightness in [0, 1], and its logarithm."""
    value = crops_CHW3.reshape(len(crops_CHW3), -1).mean(axis=1) / 255
    return np.column_stack([value, np.log(value.clip(1e-3))])


def as_told(told_CS: np.ndarray, centres_C2: np.ndarray) -> np.ndarray:
    return told_CS[:, 0]


def mapped(image_HW3: np.ndarray, judge: JudgeCrops = as_told, **changes) -> QualityMap:
    return quality_map(image_HW3, brightness, judge, SIZE, MapConfig(**changes))


def grey(height: int, width: int, value: int = 200) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", [0, 1])
def test_lowest_place_is_in_the_dark_quarter(row: int, column: int):
    image = grey(96, 128)
    image[row * 48 : row * 48 + 48, column * 64 : column * 64 + 64] = 40
    found = mapped(image)
    for cells in (found.quality_hw, found.undamaged_hw):
        y, x = found.lowest(cells)
        assert (y // 48, x // 64) == (row, column)
    assert found.costliest.quality == min(crop.quality for crop in found.coarse)


def test_map_of_a_flat_image_is_flat_and_nothing_is_looked_at_again():
    found = mapped(grey(70, 90))
    np.testing.assert_allclose(found.quality_hw, 200 / 255)
    np.testing.assert_allclose(found.undamaged_hw, 200 / 255)
    assert found.looked_again == 0
    assert found.cost == pytest.approx(0)


def test_cost_is_the_gain_of_the_mean_without_the_costliest_crop():
    image = grey(32, 96)
    image[:, :40] = 10
    found = mapped(image, second_looks=0)
    values = sorted(crop.quality for crop in found.crops)
    assert found.cost == pytest.approx(np.mean(values[1:]) - np.mean(values))


@given(height=st.integers(8, 200), width=st.integers(8, 200), overlap=st.floats(0, 0.9), count=st.integers(1, 12))
@settings(max_examples=40)
def test_crops_lie_inside_and_the_map_within_their_values(height: int, width: int, overlap: float, count: int):
    rng = np.random.default_rng(height * 1000 + width)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    found = mapped(image, overlap=overlap, crops_a_side=count)
    values = [crop.quality for crop in found.crops]
    assert min(values) - 1e-9 <= found.quality_hw.min()
    assert found.quality_hw.max() <= max(values) + 1e-9
    for crop in found.crops:
        assert crop.top_px >= 0
        assert crop.top_px + crop.size_px <= height + 1
        assert crop.left_px + crop.size_px <= width + 1
    y, x = found.lowest(found.quality_hw)
    assert 0 <= y < height
    assert 0 <= x < width


@given(height=st.integers(32, 150), width=st.integers(32, 150), overlap=st.floats(0, 0.9))
@settings(max_examples=30)
def test_crops_overlap_as_asked_and_cover_the_image(height: int, width: int, overlap: float):
    found = mapped(grey(height, width), overlap=overlap, crops_a_side=100)
    for side, starts in (
        (height, {crop.top_px for crop in found.coarse}),
        (width, {crop.left_px for crop in found.coarse}),
    ):
        ordered = sorted(starts)
        if side - SIZE >= len(ordered):  # else there is no room for different places
            assert ordered[0] == 0
            assert ordered[-1] + SIZE == side
            assert all(b - a <= SIZE * (1 - overlap) + 1 for a, b in pairwise(ordered))


def test_cells_are_the_gaussian_weighted_mean_of_the_crops():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    config = MapConfig(second_looks=0)
    found = quality_map(image, brightness, as_told, SIZE, config)
    rows, columns = found.quality_hw.shape
    for i in (0, rows // 2, rows - 1):
        for j in (0, columns - 1):
            y, x = (i + 0.5) * 64 / rows, (j + 0.5) * 96 / columns
            total = weighted = 0.0
            for crop in found.crops:
                distance = (crop.top_px + SIZE / 2 - y) ** 2 + (crop.left_px + SIZE / 2 - x) ** 2
                weight = np.exp(-distance / 2 / (config.spread * SIZE) ** 2)
                total, weighted = total + weight, weighted + weight * crop.quality
            assert found.quality_hw[i, j] == pytest.approx(weighted / total)


def test_second_look_narrows_down_where_neighbours_disagree():
    image = grey(96, 96)
    image[44:60, 44:60] = 0
    coarse, again = mapped(image, second_looks=0), mapped(image, second_looks=4, disagreement=0.02)
    assert again.looked_again > 0
    fine = [crop for crop in again.crops if crop.fine]
    assert len(fine) == 9 * again.looked_again
    assert all(crop.size_px == SIZE // 2 for crop in fine)
    darkest = again.lowest(again.quality_hw)
    assert np.hypot(*np.subtract(darkest, 52)) <= np.hypot(*np.subtract(coarse.lowest(coarse.quality_hw), 52))


def test_crops_of_an_image_are_judged_together_and_finer_ones_change_the_quality_only():
    judged = []

    def less_than_the_mean(told_CS: np.ndarray, centres_C2: np.ndarray) -> np.ndarray:
        judged.append(len(told_CS))
        assert np.all((centres_C2 > 0) & (centres_C2 < 1))
        assert np.allclose(centres_C2[[0, -1]], [[1 / 6, 1 / 6], [5 / 6, 5 / 6]])
        return np.minimum(told_CS[:, 0] - told_CS[:, 0].mean(), 0)

    image = grey(96, 96)
    image[44:60, 44:60] = 0
    found = mapped(image, less_than_the_mean, second_looks=2, disagreement=0.02)
    coarse = mapped(image, less_than_the_mean, second_looks=0)
    assert found.looked_again == 2
    assert judged == [len(coarse.crops)] * 2
    logs = np.log([crop.quality for crop in coarse.crops])
    expected = np.exp(np.minimum(logs - logs.mean(), 0))
    np.testing.assert_allclose([crop.undamaged for crop in found.coarse], expected)
    np.testing.assert_array_equal(found.undamaged_hw, coarse.undamaged_hw)
    assert not np.array_equal(found.quality_hw, coarse.quality_hw)
    assert {crop.undamaged for crop in found.crops if crop.fine} <= {crop.undamaged for crop in found.coarse}


def test_small_image_has_one_crop_in_its_own_pixels():
    found = mapped(grey(16, 16))
    [crop] = found.crops
    assert (crop.top_px, crop.left_px, crop.size_px) == (0, 0, 16)
    assert found.cost == 0


def test_thin_strip_is_refused():
    with pytest.raises(ImageError, match="too thin"):
        quality_map(grey(1, 60_000), brightness, as_told, 224)
