"""Pictures that no camera took: of their kind and seed, and of the sizes that are promised."""

from __future__ import annotations

import numpy as np
import pytest

from grmp_core.procedural.made_pictures import MADE_KINDS, made_picture


@pytest.mark.parametrize("kind", MADE_KINDS)
def test_a_picture_is_that_of_its_kind_and_seed(kind):
    first, again, other = made_picture(kind, 3), made_picture(kind, 3), made_picture(kind, 4)
    np.testing.assert_array_equal(first, again)
    for picture in (first, other):
        height, width, channels = picture.shape
        assert (picture.dtype, channels) == (np.uint8, 3)
        assert 360 <= height <= 800
        assert 420 <= width <= 1000
        assert picture.std() > 2  # something can be seen
    assert first.shape != other.shape or (first != other).any()


def test_scans_are_grey_and_pages_are_paper():
    scan, page = made_picture("scan", 0), made_picture("page", 0)
    np.testing.assert_array_equal(scan[..., 0], scan[..., 2])
    assert np.median(page) > 230
