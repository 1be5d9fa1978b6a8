"""Which image, or pair, a rater is asked about next. It follows from votes, folder and plan: a restart changes nothing.

All raters get the same images first, each in an order of their own, so that raters can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from grmp_core.ratings.vote_log import Vote

WINDOW = 20
"""A rater's next question is drawn among so many, in an order of the rater's own."""
_MIN_VOTES_BETWEEN = 5
"""Votes, at least, between a question and its repeat."""
_BREAK_MINUTES = 5.0
PAIRS_PER_IMAGE = 3


def next_images(
    rater: str, candidates: Iterable[tuple[str, ...]], done: Collection[tuple[str, ...]], first: int | None = None
) -> Iterator[tuple[str, ...]]:
    """Questions of a rater, best first: candidates that are not done, mixed within a window.

    first: so many candidates come before the others, which are there when all of these are done; null: all of them.
    """
    rest = iter(candidates)
    for tier in (islice(rest, first), rest):
        fresh = (images for images in tier if tuple(sorted(images)) not in done)
        window = list(islice(fresh, WINDOW))
        if not window:
            continue
        while window:
            best = min(window, key=lambda images: draw(rater, *images))
            yield best
            window.remove(best)
            window += islice(fresh, 1)
        return


def grade_candidates(
    in_play: Sequence[str], order: Sequence[str], planned: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """Images that anyone has graded first, then the planned ones, then all others in the folder's random order."""
    first = dict.fromkeys((*in_play, *planned))
    yield from ((key,) for key in first)
    yield from ((key,) for key in order if key not in first)


def pair_candidates(in_play: Sequence[str], order: Sequence[str], count: int) -> Iterator[tuple[str, ...]]:
    """Pairs among `count` images: once around a ring, which connects all of them, then rings with wider steps."""
    seen = set(in_play)
    fresh = (key for key in order if key not in seen)
    chosen = sorted([*in_play[:count], *islice(fresh, max(0, count - len(in_play)))])
    size = len(chosen)
    steps = sorted(range(2, size // 2 + 1), key=lambda step: draw("step", str(step)))
    for step in ([1] if size > 1 else []) + steps:
        for i in range(size if 2 * step != size else step):
            pair = (chosen[i], chosen[(i + step) % size])
            yield pair if int(draw("side", *pair), 16) % 2 else pair[::-1]


def repeat_due(votes: Sequence[Vote], every: int) -> bool:
    """Whether the next question is to be a repeat; `votes` are one rater's, of one kind."""
    return every > 0 and (len(votes) + 1) % every == 0


def repeatable(rater: str, votes: Sequence[Vote]) -> list[Vote]:
    """First votes, not too recent, that have not been repeated; best first."""
    repeated = {tuple(sorted(vote.images)) for vote in votes if vote.repeat}
    old = [vote for vote in votes[:-_MIN_VOTES_BETWEEN] if not vote.repeat]
    fresh = [vote for vote in old if tuple(sorted(vote.images)) not in repeated]
    return sorted(fresh, key=lambda vote: draw(rater, *sorted(vote.images)))


def minutes_without_break(times: Sequence[str], now: str) -> float:
    """Minutes since the last pause of five minutes; 0 in such a pause."""
    moments = [datetime.fromisoformat(time) for time in (*times, now)]
    began = moments[-1]
    for moment in reversed(moments):
        if (began - moment).total_seconds() > _BREAK_MINUTES * 60:
            break
        began = moment
    return (moments[-1] - began).total_seconds() / 60


def draw(*words: str) -> str:
    """A random number that is always the same for the same words; hex digits."""
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]
