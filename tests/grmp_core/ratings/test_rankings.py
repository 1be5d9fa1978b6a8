"""Rankings become pairs; their strengths against those that choix finds by Plackett and Luce's model."""

from __future__ import annotations

from pathlib import Path

import choix
import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.ratings.pairs import fit_pairs, pairs_of
from grmp_core.ratings.rankings import read_rankings

NAMES = tuple(f"{letter}.png" for letter in "abcdefgh")


def find(name: str) -> str | None:
    return name if name in NAMES else None


def table_of(folder: Path, rows: list[tuple[object, ...]]) -> str:
    lines = ["rater,ranking,image,rank", *(",".join(map(str, row)) for row in rows)]
    (folder / "rankings.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "rankings.csv")


def test_a_ranking_is_its_pairs_and_equal_ranks_are_ties(tmp_path: Path):
    path = table_of(tmp_path, [("Ann", 1, "b.png", 1), ("Ann", 1, "a.png", 2), ("Ann", 1, "c.png", 2)])
    found = read_rankings(path, find)
    answers = {vote.images: vote.value for vote in found.votes}
    assert answers == {
        ("a.png", "b.png"): "right",
        ("a.png", "c.png"): "same",
        ("b.png", "c.png"): "left",
    }
    assert [vote.id for vote in found.votes] == [vote.id for vote in read_rankings(path, find).votes]
    assert len({vote.id for vote in found.votes}) == 3


def test_rankings_of_two_and_of_many_give_the_strengths_that_choix_finds(tmp_path: Path):
    """Gumbel noise makes rankings by Plackett and Luce's model; full breaking estimates the same strengths."""
    rng, strength = np.random.default_rng(0), np.linspace(-1.5, 1.5, len(NAMES))
    orders = [np.argsort(-(strength + rng.gumbel(size=len(NAMES)))) for _ in range(300)]
    rows = [(f"r{i}", 1, NAMES[image], place) for i, order in enumerate(orders) for place, image in enumerate(order, 1)]
    pairs = pairs_of(read_rankings(table_of(tmp_path, rows), find).votes)
    found = dict(zip(pairs.images, fit_pairs(pairs).strength_I, strict=True))
    expected = choix.opt_rankings(len(NAMES), orders, alpha=1e-3)
    np.testing.assert_allclose([found[name] for name in NAMES], expected - expected.mean(), atol=0.15)


def test_bad_rows_are_listed_and_double_images_refused(tmp_path: Path):
    rows = [("Ann", 1, "a.png", 1), ("Ann", 1, "gone.png", 2), ("Ann", 1, "b.png", "x"), ("", 1, "c.png", 1)]
    rows += [("Ann", 1, "d.png", 0), ("Ann", 1, "e.png", 2)]
    found = read_rankings(table_of(tmp_path, rows), find)
    assert [vote.images for vote in found.votes] == [("a.png", "e.png")]
    words = ("no image gone.png in the folder", "the rank 'x' is no number", "has no name", "below 1, the best")
    assert len(found.rejected) == len(words)
    for reject, word in zip(found.rejected, words, strict=True):
        assert word in reject.reason
    lonely = read_rankings(table_of(tmp_path, [("Ann", 1, "a.png", 1), ("Ann", 1, "gone.png", 2)]), find)
    assert lonely.votes == ()
    assert lonely.rejected[-1].reason == "ranking 1 of Ann: a ranking needs two images"
    with pytest.raises(InputError, match=r"a\.png is twice in the ranking 1 of Ann"):
        read_rankings(table_of(tmp_path, [("Ann", 1, "a.png", 1), ("Ann", 1, "a.png", 2)]), find)
    (tmp_path / "other.csv").write_text("image,mos\na.png,3\n")
    with pytest.raises(InputError, match="rater"):
        read_rankings(str(tmp_path / "other.csv"), find)
