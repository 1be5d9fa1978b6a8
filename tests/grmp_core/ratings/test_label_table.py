"""Labels from votes, and the table that `target.dataset: table` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grmp_core.datasets.label_table import load_table
from grmp_core.errors import InputError
from grmp_core.ratings.label_table import labels_of, to_csv, weights_of
from grmp_core.score_range import ScoreRange
from tests.grmp_core.ratings.votes import grade, pair


def test_the_table_is_read_as_a_target(tmp_path: Path):
    names = ("a,b.jpg", "sub/ü.jpg", 'quote".jpg')
    votes = [grade(rater, name, value) for name in names for rater, value in (("Ann", 2), ("Bob", 5))]
    votes.append(grade("Ann", "one.jpg", 4))
    (tmp_path / "sub").mkdir()
    for name in (*names, "one.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "labels.csv").write_text(to_csv(labels_of(votes).rows))
    target = load_table(str(tmp_path / "labels.csv"), 0.0, score_range=ScoreRange(mos_min=1, mos_max=5))
    assert {Path(p).name: mos for p, mos in zip(target.image_paths, target.mos, strict=True)} == {
        "a,b.jpg": 3.5,
        "ü.jpg": 3.5,
        'quote".jpg': 3.5,
        "one.jpg": 4.0,
    }
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0] == "image,mos,stderr,votes,weight"
    assert any(line.startswith("sub/ü.jpg,3.5,1.5,2,") for line in lines)
    assert any(line.startswith("one.jpg,4,,1,") for line in lines)
    weights = dict(zip((Path(p).name for p in target.image_paths), target.weights, strict=True))
    assert weights["ü.jpg"] > weights["one.jpg"] > 0  # two votes against one


def test_weights_are_reliabilities_and_left_out_where_all_are_alike():
    """Votes have variance 2 (1 and 3) of every image, labels 2, 4, 2, 4 and 3 have variance .8."""
    votes = [grade(rater, image, mean + off) for image, mean in (("a", 2), ("b", 4), ("c", 2), ("d", 4))
             for rater, off in (("Ann", -1), ("Bob", 1))]  # fmt: skip
    alike = labels_of(votes).rows
    assert weights_of(alike) is None
    assert to_csv(alike).splitlines()[0] == "image,mos,stderr,votes"
    rows = labels_of([*votes, grade("Ann", "e", 3)]).rows
    signal = max(0.8 - (4 * 1 + 2) / 5, 0.08)
    np.testing.assert_allclose(weights_of(rows), [*[signal / (signal + 1)] * 4, signal / (signal + 2)])
    assert weights_of(labels_of([grade("Ann", image, 3 + i) for i, image in enumerate("ab")]).rows) is None


def test_pairs_are_refused_beside_grades_of_other_images():
    votes = [grade("Ann", "a", 5), grade("Ann", "b", 3), pair("c", "d", "left"), pair("d", "e", "right")]
    with pytest.raises(InputError, match="0 images have both grades and pairs; grade at least 3"):
        labels_of(votes)


def test_pairs_alone_and_pairs_with_grades():
    order = ["a", "b", "c", "d"]
    pairs = [pair(order[i], order[j], "left") for i in range(4) for j in range(i + 1, 4)]
    alone = labels_of(pairs)
    assert [row.image for row in sorted(alone.rows, key=lambda row: -row.mos)] == order
    assert "no grades" in alone.notes[0]
    grades = [grade("Ann", image, value) for image, value in (("a", 5), ("b", 4), ("c", 2))]
    both = {row.image: row for row in labels_of([*pairs, *grades]).rows}
    assert [both[image].mos for image in "abc"] == [5, 4, 2]
    assert both["d"].mos < 2
    assert both["d"].votes == 3


def test_screened_and_modelled_labels():
    """Of 24 raters one gives 1 and 5 in turn where all others give 3."""
    votes = [grade(f"r{r}", f"i{i}", 3) for i in range(20) for r in range(23)]
    votes += [grade("wild", f"i{i}", (1, 5)[i] if i < 2 else 3) for i in range(20)]
    assert labels_of(votes, "mean").rows[0].mos < 3
    screened = labels_of(votes, "screened")
    assert [row.mos for row in screened.rows] == [3] * 20
    assert screened.notes == ("left out by the screening of BT.500: wild",)
    by_name = {rater.rater: rater for rater in screened.raters}
    assert by_name["wild"].remark == "fails the screening"
    assert by_name["r0"].remark == "always 3"
    assert abs(labels_of(votes, "model").rows[0].mos - 3) < abs(labels_of(votes, "mean").rows[0].mos - 3)


def test_repeats_measure_consistency_and_are_no_labels():
    votes = [grade("Ann", "a", 2), grade("Ann", "b", 4), grade("Ann", "a", 4, repeat=True)]
    votes += [grade("Ann", "b", 4, repeat=True), pair("a", "b", "left"), pair("b", "a", "right", repeat=True)]
    labels = labels_of(votes[:4])
    assert {row.image: row.mos for row in labels.rows} == {"a": 2, "b": 4}
    (ann,) = labels.raters
    assert (ann.votes, ann.repeats, ann.same, ann.distance) == (2, 2, 0.5, 1.0)
    assert np.isnan(ann.bias)
    (ann,) = labels_of(votes[4:]).raters
    assert (ann.votes, ann.repeats, ann.same) == (1, 1, 1.0)


def test_no_votes_are_refused():
    with pytest.raises(InputError, match="no votes"):
        labels_of([])
