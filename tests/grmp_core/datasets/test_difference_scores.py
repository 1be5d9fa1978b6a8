"""Tables of differences (DMOS), and of scores with a standard deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grmp_core.datasets import load
from grmp_core.datasets.certainty import reliabilities
from grmp_core.errors import InputError

HEADER = "image,dmos,scene,sd,n"
FALLING = ["a.png,0,a,0,4", "a1.png,10,a,2,4", "a2.png,30,a,4,4", "b.png,1,b.png,1,1", "b1.png,-1,b.png,3,9",
           "b2.png,9,b.png,6,9"]  # fmt: skip


def table_of(folder: Path, rows: list[str]) -> str:
    for row in rows:
        (folder / row.split(",")[0]).write_bytes(row.encode())
    (folder / "labels.csv").write_text("\n".join([HEADER, *rows]))
    return str(folder / "labels.csv")


def test_rated_originals_tell_the_direction(tmp_path: Path):
    """By the mean of their distorted images: a single one may seem better than its original."""
    path = table_of(tmp_path, FALLING)
    target = load("table", path, reference_column="scene")
    assert not target.score_range.higher_is_better
    np.testing.assert_allclose(target.quality, (30 - target.mos) / 31)
    assert "'dmos' is lower for a better image: all 2 rated originals have lower scores" in target.notes
    rising = [
        ",".join([image, str(100 - int(score)), *rest]) for image, score, *rest in (r.split(",") for r in FALLING)
    ]
    target = load("table", table_of(tmp_path, rising), reference_column="scene")
    assert target.score_range.higher_is_better
    assert not load("table", path, reference_column="scene", higher_is_better=False).score_range.higher_is_better


@pytest.mark.parametrize(
    ("rows", "reference", "why"),
    [
        (FALLING, None, "where target.reference_column names their references"),
        (FALLING[1:3], "scene", "no image is its own reference"),
        ([*FALLING[:5], "b2.png,-9,b.png,6,9"], "scene", "of 2 originals 1 are above the mean of their distorted"),
    ],
)
def test_a_direction_that_cannot_be_known_is_one_line(tmp_path: Path, rows: list[str], reference: str | None, why: str):
    with pytest.raises(InputError, match=f"'dmos' may hold differences.*set target.higher_is_better.*{why}"):
        load("table", table_of(tmp_path, rows), reference_column=reference)


def test_deviations_and_votes_become_weights(tmp_path: Path):
    """The share of a label's variance that is no error: signal / (signal + deviation² / votes)."""
    settings = {"higher_is_better": False, "deviation_column": "sd"}
    path = table_of(tmp_path, FALLING)
    error = np.array([0, 2**2 / 4, 4**2 / 4, 1, 3**2 / 9, 6**2 / 9])
    signal = np.var([0, 10, 30, 1, -1, 9]) - error.mean()
    np.testing.assert_allclose(load("table", path, votes="n", **settings).weights, signal / (signal + error))
    error = np.array([0, 2, 4, 1, 3, 6]) ** 2 / 16
    signal = np.var([0, 10, 30, 1, -1, 9]) - error.mean()
    np.testing.assert_allclose(load("table", path, votes="16", **settings).weights, signal / (signal + error))


def test_rows_without_certainty_are_rejected_and_settings_must_fit(tmp_path: Path):
    path = table_of(tmp_path, [*FALLING, "c.png,5,c,,3", "d.png,5,d,-1,3", "e.png,5,e,1,0"])
    settings = {"higher_is_better": False, "deviation_column": "sd"}
    target = load("table", path, votes="n", max_reject_fraction=0.5, **settings)
    assert [reject.reason.partition(": ")[2] for reject in target.rejected] == [
        "the standard deviation '' is no number of 0 or more",
        "the standard deviation '-1' is no number of 0 or more",
        "the number of votes '0' is no number of 1 or more",
    ]
    assert target.weights is not None
    with pytest.raises(InputError, match=r"set both target.deviation_column and target.votes"):
        load("table", path, **settings)
    with pytest.raises(InputError, match=r"set both target.deviation_column and target.votes"):
        load("table", path, higher_is_better=False, votes="5")
    with pytest.raises(InputError, match="both weigh the labels"):
        load("table", path, votes="n", weight_column="n", **settings)


def test_labels_as_certain_as_each_other_have_no_weights():
    assert reliabilities(np.array([1.0, 2.0]), np.array([0.5, 0.5])) is None
    assert reliabilities(np.array([1.0, 2.0]), np.array([0.5, np.nan])) is None
    np.testing.assert_allclose(reliabilities(np.array([1.0, 3.0]), np.array([0.0, 1.0])), [1, 0.5 / 1.5])
