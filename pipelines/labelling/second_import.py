"""Votes of a file compared with a log that has some of them already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grmp_core.ratings.vote_log import Undo, Vote, VoteHistory, now
from pipelines.labelling.questions import draw


@dataclass(frozen=True, kw_only=True)
class Additions:
    """Votes of a file, by what becomes of them."""

    new: tuple[Vote, ...]
    known: int
    corrected: int
    corrections: tuple[Vote | Undo, ...]
    """For each corrected vote an undo and the vote with its new value."""
    twice: tuple[str, ...]
    """One line for each vote that the file has twice under one identity; the first one is taken."""


def additions(votes: Sequence[Vote], history: VoteHistory) -> Additions:
    """Compare votes of a file with a log.

    The id of an imported vote is its identity, without the value: a vote whose id is in the log with another value is a
    correction. A corrected vote has an id that follows from the one of before. A vote that was taken back stays so
    unless the file has another value now.
    """
    logged = {entry.id: entry for entry in history.entries if isinstance(entry, Vote)}
    counting = {vote.id: vote for vote in history.votes}
    new: list[Vote] = []
    corrections: list[Vote | Undo] = []
    twice: list[str] = []
    seen: set[str] = set()
    corrected = 0
    for vote in votes:
        if vote.id in seen:
            twice.append(f"{' and '.join(vote.images)} by {vote.rater}: twice in one entry; the first one is taken")
            continue
        seen.add(vote.id)
        if vote.id not in logged:
            new.append(vote)
            continue
        last = _last_id(vote.id, logged)
        before = logged[last]
        if (before.value, before.images) == (vote.value, vote.images):
            continue
        corrected += 1
        after = replace(vote, id=_next_id(last), image_ids=before.image_ids, repeat=before.repeat)
        # Repeats come after what they repeat: where they do not, readers take the repeat for the first vote.
        later = [other for other in counting.values() if other.repeat and _is_same(other, before)]
        moved = [] if before.repeat or last not in counting else later
        taken = [*([before] if last in counting else []), *moved]
        again = [after, *(replace(other, id=_next_id(other.id)) for other in moved)]
        corrections += [Undo(id=draw("undo", one.id), rater=one.rater, time=now(), undoes=one.id) for one in taken]
        corrections += again
        for one in taken:
            del counting[one.id]
        for one in again:
            logged[one.id] = counting[one.id] = one
    known = len(seen) - len(new) - corrected
    return Additions(
        new=tuple(new), known=known, corrected=corrected, corrections=tuple(corrections), twice=tuple(twice)
    )


def _is_same(one: Vote, other: Vote) -> bool:
    return one.rater == other.rater and one.kind == other.kind and set(one.images) == set(other.images)


def _last_id(vote: str, logged: dict[str, Vote]) -> str:
    while (after := _next_id(vote)) in logged:
        vote = after
    return vote


def _next_id(vote: str) -> str:
    return draw("corrected", vote)
