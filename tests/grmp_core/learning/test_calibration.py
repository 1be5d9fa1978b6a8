"""The line through quality logits: found again where one made the labels."""

from __future__ import annotations

import numpy as np
import pytest

from grmp_core.learning.calibration import fit_calibration


def test_the_calibration_that_made_the_labels_is_found():
    margins = np.random.default_rng(0).normal(size=40)
    quality = 1 / (1 + np.exp(-(2 * margins + 0.5)))
    scale, offset = fit_calibration(margins, quality)
    assert (scale, offset) == pytest.approx((2, 0.5), abs=0.05)  # the prior pulls a little
    assert fit_calibration(margins, 1 - quality)[0] == pytest.approx(0.1)  # never turned around
    assert fit_calibration(np.zeros(3), np.full(3, 0.7))[1] == pytest.approx(np.log(0.7 / 0.3), abs=1e-3)
