"""Which test images count as drawn anew in the comparison of two arms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grmp_core.evaluation.paired_inference import FoldPredictions, paired_difference
from pipelines.ablation.comparison import compare

DRAWS, IMAGES = 4, 30
RNG = np.random.default_rng(0)
MOS = RNG.standard_normal((DRAWS, IMAGES))
OURS, THEIRS = (MOS[:1] + noise * RNG.standard_normal((DRAWS, IMAGES)) for noise in (0.5, 0.7))


def predictions_of(names: list[list[str]]) -> pd.DataFrame:
    """Of every split as many images as it has names; images of one name have one human score."""
    mos_of = dict(zip(np.concatenate(names), MOS.ravel(), strict=True))
    parts = [
        pd.DataFrame({"image_path": names[d], "method": method, "split_seed": d, "shots": 10, "predicted": values[d]})
        for d in range(DRAWS)
        for method, values in (("ours", OURS), ("theirs", THEIRS))
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(mos=table["image_path"].map(mos_of))


def compared(names: list[list[str]]):
    groups = {name: name for names_N in names for name in names_N}
    (found,), _ = compare(predictions_of(names), groups, "ours", ["theirs"], folds=0)
    return found.result


def test_splits_with_one_test_part_are_label_draws_of_one_fold():
    names = [f"{i:02d}.png" for i in range(IMAGES)]
    found = compared([names] * DRAWS)
    one_fold = FoldPredictions(np.array(names), MOS[-1], OURS, THEIRS)  # the names have the scores of the last split
    assert found == paired_difference([one_fold])
    assert (found.draws, found.images) == (DRAWS, IMAGES)
    apart = paired_difference([FoldPredictions(np.array(names), MOS[-1], OURS[[d]], THEIRS[[d]]) for d in range(DRAWS)])
    assert found.high - found.low > 1.1 * (apart.high - apart.low)


@pytest.mark.parametrize("shared", [0, IMAGES - 1])
def test_splits_with_other_test_images_are_folds_of_their_own(shared):
    names = [[f"{i:02d}.png" if i < shared else f"{i:02d}-{d}.png" for i in range(IMAGES)] for d in range(DRAWS)]
    found = compared(names)
    mos_of = predictions_of(names).set_index("image_path")["mos"].to_dict()
    folds = [
        FoldPredictions(np.array(names[d]), np.array([mos_of[n] for n in names[d]]), OURS[[d]], THEIRS[[d]])
        for d in range(DRAWS)
    ]
    assert found == paired_difference(folds)
    assert found.images == DRAWS * IMAGES
