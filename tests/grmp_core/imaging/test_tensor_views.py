"""Views of tensors against those of uint8 pictures, which OpenCV resizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grmp_core.errors import ImageError
from grmp_core.imaging.tensor_views import tensor_views
from grmp_core.imaging.views import ViewConfig, scoring_views
from tests.grmp_core.imaging import pictures

SIZE = 32


def as_tensor(image_HW3: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image_HW3).permute(2, 0, 1)[None].float() / 255


def both(image: np.ndarray, config: ViewConfig) -> tuple[np.ndarray, np.ndarray]:
    """The views by tensors and by OpenCV, on 0..255."""
    tensors = tensor_views(as_tensor(image), config, SIZE)[0].permute(0, 2, 3, 1).numpy() * 255
    return tensors, scoring_views(image, config, SIZE).astype(float)


@pytest.mark.parametrize("grid", [1, 2, 3])
@settings(max_examples=30)
@given(height=st.integers(SIZE, 70), width=st.integers(SIZE, 70))
def test_native_crops_are_the_same(grid, height, width):
    tensors, arrays = both(pictures.photo(height, width), ViewConfig(score_grid=grid))
    assert tensors.shape == arrays.shape
    np.testing.assert_allclose(tensors, arrays, atol=1e-4)


@pytest.mark.parametrize("mode", ["crops", "resize", "official"])
@settings(max_examples=40)
@given(height=st.integers(9, 150), width=st.integers(9, 150), seed=st.integers(0, 99))
def test_resized_views_differ_by_the_rounding_of_opencv(mode, height, width, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tensors, arrays = both(noise, ViewConfig(mode=mode, score_grid=2))
    assert tensors.shape == arrays.shape
    assert np.abs(tensors - arrays).max() < 1.5


def test_shrinking_by_a_whole_number_is_the_mean_of_blocks():
    image = as_tensor(pictures.photo(3 * SIZE, 3 * SIZE)).double()
    view = tensor_views(image, ViewConfig(mode="resize", score_grid=1), SIZE)[0, 0]
    blocks = image[0].unflatten(1, (SIZE, 3)).unflatten(3, (SIZE, 3)).mean(dim=(2, 4))
    torch.testing.assert_close(view, blocks)


@pytest.mark.parametrize("mode", ["crops", "resize", "official"])
def test_a_sum_over_views_has_a_gradient_at_pixels(mode):
    image = torch.rand(2, 3, 20, 40, requires_grad=True, generator=torch.Generator().manual_seed(0))
    tensor_views(image, ViewConfig(mode=mode), SIZE).sum().backward()
    assert (image.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_a_thin_strip_is_refused():
    with pytest.raises(ImageError, match="too thin"):
        tensor_views(torch.zeros(1, 3, 2, 600_000), ViewConfig(), SIZE)
