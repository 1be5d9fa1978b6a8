"""Votes for the tests of this folder."""

from __future__ import annotations

from itertools import count

from grmp_core.ratings.vote_log import Vote

_NUMBERS = count()


def grade(rater: str, image: str, value: float, *, repeat: bool = False) -> Vote:
    return Vote(
        id=f"v{next(_NUMBERS)}",
        rater=rater,
        time="2026-01-01T00:00:00.000+00:00",
        kind="grade",
        images=(image,),
        image_ids=("0123456789abcdef",),
        value=value,
        repeat=repeat,
    )


def pair(left: str, right: str, value: str, *, rater: str = "Ann", repeat: bool = False) -> Vote:
    return Vote(
        id=f"v{next(_NUMBERS)}",
        rater=rater,
        time="2026-01-01T00:00:00.000+00:00",
        kind="pair",
        images=(left, right),
        image_ids=(None, None),
        value=value,
        repeat=repeat,
    )
