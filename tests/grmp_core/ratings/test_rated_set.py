"""A vote log, or rankings, in the place of a table of labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import image_id
from grmp_core.ratings.label_table import labels_of, weights_of
from grmp_core.ratings.rated_set import current_votes, load_votes, votes_file
from grmp_core.ratings.vote_log import Vote, VoteLog
from grmp_core.strict_json import json_text
from tests.grmp_core.ratings.votes import grade, pair

NAMES = [f"{i}.png" for i in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def unknown_bytes(vote: Vote) -> Vote:
    return type(vote)(**{**vars(vote), "image_ids": (None,) * len(vote.images)})


def log_of(folder: Path, votes: list[Vote]) -> str:
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append([unknown_bytes(vote) for vote in votes])
    log.close()
    return log.path


def test_a_log_is_told_from_a_table(folder: Path):
    assert votes_file(str(folder)) is None  # nothing in it is a table
    path = log_of(folder, [grade("Ann", "0.png", 3)])
    assert votes_file(path) == path
    assert votes_file(str(folder)) == path
    (folder / "labels.jsonl").write_text(json_text({"image": "0.png", "mos": 3}) + "\n")
    assert votes_file(str(folder / "labels.jsonl")) is None
    assert votes_file(str(folder)) is None  # which of the two, the loader of tables asks
    (folder / "r.csv").write_text("rater,ranking,image,rank\nAnn,1,0.png,1\n")
    assert votes_file(str(folder / "r.csv")) == str(folder / "r.csv")
    (folder / "r.csv").write_text("rater,ranking,image,rank,mos\nAnn,1,0.png,1,3\n")
    assert votes_file(str(folder / "r.csv")) is None
    assert votes_file(str(folder / "absent.jsonl")) is None
    assert votes_file("s3://bucket/votes.jsonl") is None


def test_grades_are_means_on_their_scale_and_weigh_by_their_number(folder: Path):
    votes = [grade(rater, name, 1 + (i + r) % 5) for i, name in enumerate(NAMES) for r, rater in enumerate("AB")]
    votes += [grade("C", "0.png", 5), grade("A", "0.png", 1, repeat=True)]
    target = load_votes(log_of(folder, votes), 0.0)
    assert target.image_paths == [str(folder / name) for name in NAMES]
    np.testing.assert_allclose(target.mos, [8 / 3, 2.5, 3.5, 4.5, 3, 1.5])
    assert (target.score_range.mos_min, target.score_range.mos_max) == (1, 5)
    np.testing.assert_allclose(target.quality, (target.mos - 1) / 4)
    np.testing.assert_allclose(target.weights, weights_of(labels_of(votes).rows))
    assert "6 labels from 14 votes of 3 raters" in target.notes
    assert load_votes(str(folder / "votes.jsonl"), 0.0, use_weights=False).weights is None


def test_pairs_are_strengths_on_a_scale_of_their_own(folder: Path):
    votes = [pair(a, b, "right") for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]]
    target = load_votes(log_of(folder, votes), 0.0)
    np.testing.assert_allclose(target.mos, [row.mos for row in labels_of(votes).rows])
    assert (np.diff(target.quality) > 0).all()
    assert (target.quality[0], target.quality[-1]) == (0, 1)


def test_rankings_are_the_pairs_that_are_in_them(folder: Path):
    rows = [f"{rater},1,{name},{i + 1}" for rater in "AB" for i, name in enumerate(NAMES)]
    (folder / "rankings.csv").write_text("\n".join(["rater,ranking,image,rank", *rows, "A,1,gone.png,7"]))
    with pytest.raises(InputError, match=r"no image gone\.png in the folder"):
        load_votes(str(folder / "rankings.csv"), 0.0)
    target = load_votes(str(folder / "rankings.csv"), 0.5)
    assert (np.diff(target.quality) < 0).all()
    assert len(target.rejected) == 1


def test_images_that_are_gone_or_have_changed_are_rejected(folder: Path):
    names = [*NAMES[:3], *NAMES[4:], "gone.png"]
    votes = [unknown_bytes(grade("Ann", name, 1 + i % 5)) for i, name in enumerate(names)]
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append([*votes, grade("Bob", "3.png", 2)])  # whose id is of other bytes
    log.close()
    with pytest.raises(InputError, match="2 of 7 label rows cannot be used"):
        load_votes(log.path, 0.0)
    target = load_votes(log.path, 0.5)
    assert target.image_paths == [str(folder / name) for name in NAMES if name != "3.png"]
    assert {Path(r.path).name: r.reason for r in target.rejected} == {
        "gone.png": "votes.jsonl: image not found",
        "3.png": "votes.jsonl: not the file that was rated",
    }


def test_votes_on_a_file_that_was_replaced_do_not_come_back_with_later_ones(folder: Path):
    """Each vote is compared with the file by its own id, whatever other votes on the image say."""
    earlier = [grade("Ann", name, 1) for name in NAMES[:2]] + [grade("Ann", "2.png", 4)]
    later = [grade("Bob", "0.png", 5), grade("Ann", "0.png", 3, repeat=True), grade("Bob", "2.png", 2)]
    votes = [*earlier, *(replace(vote, image_ids=(image_id(vote.images[0].encode()),)) for vote in later)]
    votes[2] = replace(votes[2], image_ids=(None,))
    current = current_votes(votes, str(folder))
    assert [(vote.rater, vote.value, vote.repeat) for vote in current.votes] == [
        ("Ann", 4, False),
        ("Bob", 5, False),
        ("Ann", 3, False),
        ("Bob", 2, False),
    ]
    assert (current.gone, current.changed) == ((), ("0.png", "1.png"))
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append(votes)
    log.close()
    target = load_votes(log.path, 0.5)
    assert target.mos.tolist() == [4, 3]
    assert [Path(reject.path).name for reject in target.rejected] == ["1.png"]
    assert "1 images were rated again after a change, such as 0.png; earlier votes left out" in target.notes


def test_a_log_without_a_vote_on_a_present_file_says_why(folder: Path):
    log = VoteLog(str(folder / "votes.jsonl"))
    log.append([grade("Ann", "gone.png", 3), grade("Ann", "0.png", 3), grade("Ann", "1.png", 3)])
    log.close()
    reason = r"of the voted images 1 gone, 2 changed since, such as gone\.png; correct target\.image_folder"
    with pytest.raises(InputError, match=reason):
        load_votes(log.path, 0.9)


def test_a_pair_with_a_replaced_image_is_left_out(folder: Path):
    present = image_id(b"0.png")
    votes = [replace(pair("0.png", "1.png", "left"), image_ids=ids) for ids in ((present, "0" * 16), (present, None))]
    current = current_votes(votes, str(folder))
    assert current.votes == (votes[1],)
    assert current.changed == ("1.png",)


def test_differences_fall_and_stay_with_their_reference(folder: Path):
    votes = [grade(rater, name, 5 - i % 3) for rater in "AB" for i, name in enumerate(NAMES)]
    references = [f"{i}.png,{3 * (i // 3)}.png" for i in range(6)]
    (folder / "references.csv").write_text("\n".join(["image,reference", *references]))
    target = load_votes(log_of(folder, votes), 0.0, references="references.csv")
    np.testing.assert_array_equal(target.mos, [1, 2, 1, 2])
    np.testing.assert_array_equal(target.quality, [1, 0, 1, 0])
    assert target.reference_ids == ["0.png", "0.png", "3.png", "3.png"]
