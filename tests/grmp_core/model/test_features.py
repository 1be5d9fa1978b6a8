"""Pixels as an image tower gets them."""

from __future__ import annotations

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from grmp_core.model.features import normalize


def test_normalizing_is_the_formula_in_double_precision():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    mean, std = torch.tensor(OPENAI_DATASET_MEAN).view(1, 3, 1, 1), torch.tensor(OPENAI_DATASET_STD).view(1, 3, 1, 1)
    expected = (pixels / 255 - np.array(OPENAI_DATASET_MEAN)) / np.array(OPENAI_DATASET_STD)

    got = normalize(torch.from_numpy(pixels), mean, std)

    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(got.permute(0, 2, 3, 1).numpy(), expected, atol=2e-6)


def test_normalizing_takes_a_part_of_larger_pictures():
    pixels = torch.randint(0, 256, (2, 9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)

    part = normalize(pixels[:, 2:6, 1:8], mean, std)

    torch.testing.assert_close(part, pixels[:, 2:6, 1:8].permute(0, 3, 1, 2) / 255)
