"""Who is asked what next."""

from __future__ import annotations

from itertools import islice

import hypothesis.strategies as st
import networkx
import pytest
from hypothesis import given

from pipelines.labelling.questions import (
    grade_candidates,
    minutes_without_break,
    next_images,
    pair_candidates,
    repeat_due,
    repeatable,
)
from tests.grmp_core.ratings.votes import grade

KEYS = [f"{i:03}" for i in range(60)]


def test_all_raters_get_the_same_images_first_in_orders_of_their_own():
    first = {
        rater: [
            images for images, _ in zip(next_images(rater, grade_candidates([], KEYS), ()), range(20), strict=False)
        ]
        for rater in ("Ann", "Bob")
    }
    assert first["Ann"] != first["Bob"]
    assert {images for order in first.values() for images in order} <= {(key,) for key in KEYS[:40]}


def test_what_others_have_graded_comes_first():
    assert list(islice(grade_candidates(["050", "040"], KEYS), 3)) == [("050",), ("040",), ("000",)]
    assert len(list(grade_candidates(["050", "040"], KEYS))) == 60


def test_every_question_comes_once_and_none_that_is_done():
    done = {("003",), ("059",)}
    asked = list(next_images("Ann", grade_candidates([], KEYS), done))
    assert len(asked) == len(set(asked)) == 58
    assert not done & set(asked)


@given(count=st.integers(2, 25), in_play=st.sets(st.sampled_from(KEYS), max_size=6))
def test_pairs_are_all_pairs_once_and_the_first_ring_connects_them(count: int, in_play: set[str]):
    pairs = list(pair_candidates(sorted(in_play), KEYS, count))
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == count * (count - 1) // 2
    assert all(len(set(pair)) == 2 for pair in pairs)
    ring = networkx.Graph(pairs[:count])
    assert networkx.is_connected(ring)
    assert ring.number_of_nodes() == count
    assert in_play <= set(ring) or len(in_play) > count


def test_sides_are_mixed():
    pairs = list(pair_candidates([], KEYS, 40))
    left = sum(pair[0] < pair[1] for pair in pairs)
    assert 0.4 < left / len(pairs) < 0.6


def test_repeats_are_not_of_the_last_votes_and_not_twice():
    votes = [grade("Ann", f"i{i}", 3) for i in range(9)]
    assert [repeat_due(votes[:count], 10) for count in (0, 8, 9)] == [False, False, True]
    assert not repeat_due(votes, 0)
    assert {vote.images[0] for vote in repeatable("Ann", votes)} == {"i0", "i1", "i2", "i3"}
    votes.append(grade("Ann", "i2", 3, repeat=True))
    assert {vote.images[0] for vote in repeatable("Ann", votes)} == {"i0", "i1", "i3", "i4"}


@pytest.mark.parametrize(
    ("minutes", "now", "expected"),
    [((), 0, 0), ((0, 4, 8), 9, 9), ((0, 4, 10, 12), 13, 3), ((0, 4, 8), 20, 0), ((0, 5), 10, 10)],
)
def test_minutes_without_a_break(minutes: tuple[int, ...], now: int, expected: float):
    def moment(minute: int) -> str:
        return f"2026-01-01T00:{minute:02}:00.000+00:00"

    assert minutes_without_break([moment(minute) for minute in minutes], moment(now)) == expected
