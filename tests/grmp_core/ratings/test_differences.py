"""Differences to a reference that the same rater has graded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.ratings.differences import differences_of, read_references
from grmp_core.ratings.grades import grades_of
from grmp_core.ratings.label_table import labels_of, to_csv
from tests.grmp_core.ratings.votes import grade, pair

REFERENCES = {"a.png": "a.png", "a1.png": "a.png", "a2.png": "a.png", "b1.png": "b.png"}
VALUES = {
    "Ann": {"a.png": 5, "a1.png": 3, "a2.png": 1, "b.png": 4, "b1.png": 4},
    "Bob": {"a.png": 4, "a1.png": 3, "a2.png": 2, "b1.png": 1},  # has not seen b.png
    "Cid": {"a.png": 3, "a1.png": 3},
}
VOTES = [grade(rater, image, value) for rater, values in VALUES.items() for image, value in values.items()]


def test_each_rater_is_compared_with_their_own_grade_of_the_reference():
    images, differences_IR = differences_of(grades_of(VOTES), REFERENCES)
    assert images == ("a1.png", "a2.png", "b1.png")
    np.testing.assert_array_equal(differences_IR, [[2, 1, 0], [4, 2, np.nan], [0, np.nan, np.nan]])


def test_labels_are_means_with_their_standard_errors_and_fall_with_quality():
    labels = labels_of(VOTES, reference_of=REFERENCES)
    assert labels.score == "dmos"
    rows = {row.image: row for row in labels.rows}
    assert {name: row.mos for name, row in rows.items()} == {"a1.png": 1, "a2.png": 3, "b1.png": 0}
    assert rows["a1.png"].stderr == pytest.approx(1 / np.sqrt(3))
    assert rows["a2.png"].stderr == pytest.approx(np.sqrt(2) / np.sqrt(2))
    assert np.isnan(rows["b1.png"].stderr)
    pooled = (2 * 1 + 1 * 2) / 3  # variances 1 and 2 with 2 and 1 degrees of freedom
    assert rows["b1.png"].variance == pytest.approx(pooled)
    assert rows["a1.png"].variance == pytest.approx(pooled / 3)
    assert to_csv(labels.rows, labels.score).splitlines()[0] == "image,dmos,stderr,votes,weight"


def test_images_without_a_common_rater_are_counted_and_references_are_not():
    votes = [grade("Ann", "a.png", 5), grade("Ann", "a1.png", 3), grade("Ann", "b.png", 4), grade("Bob", "b1.png", 1)]
    notes = labels_of(votes, reference_of=REFERENCES).notes
    assert notes[-1] == "1 images have no rater who has graded their reference, too, and no label"
    chain = {"a1.png": "a.png", "a.png": "b.png", "b.png": "b.png"}  # a.png is a reference and has one
    assert len(labels_of(votes[:3], reference_of=chain).notes) == 1


def test_the_bias_of_a_rater_is_no_difference():
    shifted = [grade(v.rater, v.images[0], v.value + (v.rater == "Cid")) for v in VOTES]
    before, after = (labels_of(votes, reference_of=REFERENCES).rows for votes in (VOTES, shifted))
    assert [(row.image, row.mos, row.votes) for row in after] == [(row.image, row.mos, row.votes) for row in before]


@pytest.mark.parametrize(
    ("votes", "references", "message"),
    [
        (VOTES, {"a1.png": "a.png"}, "3 graded images have no reference, such as a2"),
        (VOTES, {**REFERENCES, "b1.png": "c.png", "b.png": "c.png"}, "1 references have no grade, such as c.png"),
        (VOTES[:1], REFERENCES, "no graded image has a reference other than itself"),
        ([*VOTES, pair("a.png", "a1.png", "left")], REFERENCES, "there are pairs"),
    ],
)
def test_what_cannot_be_compared_is_one_line(votes: list, references: dict[str, str], message: str):
    with pytest.raises(InputError, match=message):
        labels_of(votes, reference_of=references)


def test_a_table_of_references_is_read(tmp_path: Path):
    file = tmp_path / "references.csv"
    file.write_text("image,reference\na1.png,a.png\nsub/ü.png,a.png\n")
    assert read_references(str(file)) == {"a1.png": "a.png", "sub/ü.png": "a.png"}
    file.write_text("image,reference\na1.png,a.png\na1.png,b.png\n")
    with pytest.raises(InputError, match=r"line 3: .* has another reference above"):
        read_references(str(file))
    file.write_text("image,reference\na1.png,\n")
    with pytest.raises(InputError, match="line 2: image and reference must both be named"):
        read_references(str(file))
