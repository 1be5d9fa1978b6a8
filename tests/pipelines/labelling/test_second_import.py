"""A second import of a corrected file."""

from __future__ import annotations

import json
from pathlib import Path

from grmp_core.ratings.grades import grades_of
from grmp_core.ratings.rated_set import current_votes
from grmp_core.ratings.vote_log import Vote, read_log
from pipelines.configuration.labels import RateConfig
from pipelines.labelling.votes_to_labels import Imported, import_votes
from tests.pipelines.labelling.folders import write_images


def votes_in(folder: Path) -> tuple[Vote, ...]:
    return current_votes(read_log(str(folder / "votes.jsonl")).votes, str(folder)).votes


def ranked(folder: Path, *order: str) -> Imported:
    rows = [f"Ann,1,{image},{rank}" for rank, image in enumerate(order, start=1)]
    (folder.parent / "rankings.csv").write_text("\n".join(["rater,ranking,image,rank", *rows]))
    return import_votes(RateConfig(folder=str(folder), import_file=str(folder.parent / "rankings.csv")))


def rated(folder: Path, *ratings: int) -> Imported:
    """All of them annotations of one image by one person."""
    notes = [
        {"id": i, "completed_by": 1, "result": [{"type": "rating", "value": {"rating": rating}}]}
        for i, rating in enumerate(ratings)
    ]
    (folder.parent / "export.json").write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": notes}]))
    return import_votes(RateConfig(folder=str(folder), import_file=str(folder.parent / "export.json")))


def test_an_image_more_in_a_ranking_adds_its_pairs_only(tmp_path: Path):
    folder = write_images(tmp_path / "photos", ["a.png", "b.png", "c.png"])
    ranked(folder, "a.png", "b.png")
    again = ranked(folder, "c.png", "a.png", "b.png")
    assert (again.added, again.known, again.corrected) == (2, 1, 0)
    assert len({frozenset(vote.images) for vote in votes_in(folder)}) == len(votes_in(folder)) == 3


def test_a_corrected_ranking_has_one_vote_for_each_pair(tmp_path: Path):
    folder = write_images(tmp_path / "photos", ["a.png", "b.png"])
    ranked(folder, "a.png", "b.png")
    for order, value in ((("b.png", "a.png"), "right"), (("a.png", "b.png"), "left")):  # there and back
        again = ranked(folder, *order)
        assert (again.added, again.known, again.corrected) == (0, 0, 1)
        assert [vote.value for vote in votes_in(folder)] == [value]
    assert ranked(folder, "a.png", "b.png").known == 1


def test_a_corrected_annotation_counts_and_its_repeat_stays_one(tmp_path: Path):
    folder = write_images(tmp_path / "photos", ["a.png"])
    rated(folder, 2, 3)
    again = rated(folder, 5, 3)
    assert (again.added, again.known, again.corrected) == (0, 1, 1)
    assert [(vote.value, vote.repeat) for vote in votes_in(folder)] == [(5, False), (3, True)]
    assert grades_of(votes_in(folder)).values_IR.tolist() == [[5]]
    assert rated(folder, 5, 4).corrected == 1
    assert [(vote.value, vote.repeat) for vote in votes_in(folder)] == [(5, False), (4, True)]
