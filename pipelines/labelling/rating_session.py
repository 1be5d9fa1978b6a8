"""Votes of all raters in one process: questions out, votes into the log."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Protocol

from grmp_core.errors import InputError
from grmp_core.ratings.vote_log import Undo, Vote, VoteLog, now
from pipelines.configuration.labels import RateConfig
from pipelines.labelling.image_pool import ImagePool, key_of
from pipelines.labelling.questions import (
    PAIRS_PER_IMAGE,
    draw,
    grade_candidates,
    minutes_without_break,
    next_images,
    pair_candidates,
    repeat_due,
    repeatable,
)

Kind = Literal["grade", "pair"]
_CANDIDATES = 5


class StaleQuestionError(ValueError):
    """A vote on something that is not asked any more; the message is for the rater."""


@dataclass
class _Rater:
    votes: list[Vote] = field(default_factory=list)
    """Of all kinds, without those taken back."""
    asked: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Votes ever given on these images, those taken back included."""
    again: tuple[str, ...] | None = None
    """Images (left and right as they were) whose vote was taken back last."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """The next question to a rater, and their progress."""

    id: str
    """Becomes the id of the vote, so that a vote that is sent twice counts once; empty where nothing is left."""
    images: tuple[str, ...]
    """Keys; none where nothing is left."""
    done: int
    goal: int
    undo: str
    """Id of the vote that can be taken back, empty where there is none."""
    minutes: int
    """Minutes without a break."""
    unusable: int
    """Images that cannot be shown."""
    is_complete: bool
    """Whether the folder has been read to its end."""
    advice: str
    """How much more labels would bring, empty where that is not known."""


class Plan(Protocol):
    """An order of images, as `planned_order.PlannedOrder` makes it."""

    @property
    def keys(self) -> Sequence[str]: ...

    @property
    def advice(self) -> str: ...


class RatingSession:
    """Safe to call from several threads."""

    def __init__(self, log: VoteLog, pool: ImagePool, config: RateConfig) -> None:
        self._log, self._pool, self._config = log, pool, config
        self.kind: Kind = "pair" if config.mode == "pairs" else "grade"
        self._raters: dict[str, _Rater] = defaultdict(_Rater)
        self._votes: dict[str, Vote] = {}
        self._ids: set[str] = set()
        self._in_play: dict[str, None] = {}
        """Keys of images with votes, those taken back included, in the order of their first vote."""
        self._on_screen: dict[str, tuple[str, ...]] = {}
        """The last questions of each rater."""
        self._lock = threading.Lock()
        self.plan: Plan | None = None
        """The order of images that nobody has graded; null: the folder's."""
        self.new_votes = 0
        """Votes since the start, those taken back included."""
        for entry in log.history.entries:
            self._take_in(entry)

    def question(self, rater: str) -> Question:
        """The next question of a rater."""
        with self._lock:
            before = list(self._raters[rater].votes)
        self._current(before)  # ids of files that are not known yet, without the lock, for reading them takes time
        images: tuple[str, ...] = ()
        image_ids: tuple[str, ...] | None = None
        while image_ids is None:
            with self._lock:
                state = self._raters[rater]
                own = [vote for vote in state.votes if vote.kind == self.kind]
                current = self._current(own)
                candidates = self._candidates(rater, state, own, current)
                asked = Counter(state.asked)
            if not candidates:
                break
            # Files are looked at without the lock, for that takes time. Those that are no good are no candidates then.
            for images in candidates:
                image_ids = self._look_at(images)
                if image_ids is not None:
                    with self._lock:
                        self._on_screen[rater] = images
                    break
        return Question(
            id=_question_id(rater, self.kind, images, image_ids, asked) if image_ids else "",
            images=images if image_ids else (),
            done=sum(not vote.repeat for vote in current),
            goal=self._goal(),
            undo=own[-1].id if own else "",
            minutes=int(minutes_without_break([vote.time for vote in own[-500:]], now())),
            unusable=len(self._pool.unusable),
            is_complete=self._pool.is_complete,
            advice=self.plan.advice if self.plan else "",
        )

    def vote(self, rater: str, question: str, images: tuple[str, ...], value: float | str) -> None:
        """Write one vote; nothing happens when it is there already.

        Raises:
            StaleQuestionError: the question is another one by now, or a file is gone or another one than was shown.
            InputError: no such value.
            OSError: the vote could not be written.
        """
        if any(self._pool.path(key) is None for key in images):
            raise StaleQuestionError("an image is not in the folder")
        image_ids = self._look_at(images)
        with self._lock:
            state = self._raters[rater]
            if question in self._ids:
                return
            if len(images) != (2 if self.kind == "pair" else 1) or len(set(images)) != len(images):
                raise StaleQuestionError("this was asked by another page; here is the next one")
            if image_ids is None:
                raise StaleQuestionError("the image is gone, so the vote was not taken; here is the next one")
            if question != _question_id(rater, self.kind, images, image_ids, state.asked):
                raise StaleQuestionError("the image has changed, or another page has answered; here is the next one")
            paths = tuple(self._pool.path(key) or "" for key in images)
            answers = [vote for vote in state.votes if set(vote.images) == set(paths)]
            vote = Vote(
                id=question,
                rater=rater,
                time=now(),
                kind=self.kind,
                images=paths,
                image_ids=image_ids,
                value=value,
                repeat=bool(self._current(answers)),
            )
            self._log.append([vote])
            self._take_in(vote)
            self.new_votes += 1

    def undo(self, rater: str, vote: str) -> None:
        """Take a vote back; nothing happens when it is taken back already.

        Raises:
            StaleQuestionError: it is not this rater's last vote.
            OSError: it could not be written.
        """
        with self._lock:
            own = [entry for entry in self._raters[rater].votes if entry.kind == self.kind]
            if vote in self._ids and vote not in self._votes:
                return
            if not own or own[-1].id != vote:
                raise StaleQuestionError("only your last vote can be taken back")
            entry = Undo(id=draw("undo", vote), rater=rater, time=now(), undoes=vote)
            self._log.append([entry])
            self._take_in(entry)

    def votes(self) -> list[Vote]:
        """All votes in their order, those taken back not included."""
        with self._lock:
            return list(self._votes.values())

    def raters(self) -> dict[str, int]:
        """Votes by rater, those taken back not included."""
        return {name: len(state.votes) for name, state in self._raters.items() if state.votes}

    def _goal(self) -> int:
        images = min(self._config.images, len(self._pool) - len(self._pool.unusable))
        return images if self.kind == "grade" else min(PAIRS_PER_IMAGE * images, images * (images - 1) // 2)

    def _look_at(self, images: tuple[str, ...]) -> tuple[str, ...] | None:
        """`image_id` of each file as it is now; null where one is gone or cannot be shown."""
        checks = [self._pool.check(key) for key in images]
        ids = tuple(check.image_id for check in checks if check is not None)
        return ids if len(ids) == len(images) else None

    def _current(self, votes: Sequence[Vote]) -> list[Vote]:
        """Without the votes on files that have changed since. Only files with votes are read."""
        images = {image for vote in votes for image in vote.images}
        ids = {image: self._pool.image_id(os.path.join(self._pool.folder, image)) for image in images}
        return [vote for vote in votes if not vote.changed_images(ids)]

    def _candidates(
        self, rater: str, state: _Rater, own: Sequence[Vote], current: Sequence[Vote]
    ) -> list[tuple[str, ...]]:
        """Keys of what may be asked, best first; a few, of which some may turn out unusable.

        own: votes of the rater; current: those of them on the present files.
        """
        first: list[tuple[str, ...]] = []
        if state.again is not None and len(state.again) == (2 if self.kind == "pair" else 1):
            first.append(tuple(key_of(path) for path in state.again))
        elif repeat_due(own, self._config.repeat_every):
            first += [tuple(key_of(path) for path in vote.images)[::-1] for vote in repeatable(rater, current)]
        bad = {key_of(path) for path in list(self._pool.unusable)}  # other threads change it
        first = [images for images in first if not bad & set(images) and all(map(self._pool.path, images))]
        done = {tuple(sorted(key_of(path) for path in vote.images)) for vote in current}
        # An image on a screen is about to have a vote; a plan that is renewed in between must not fill its place.
        shown = [images for name, images in self._on_screen.items() if name != rater]
        known = dict.fromkeys((*self._in_play, *(key for images in shown for key in images)))
        in_play = [key for key in known if self._pool.path(key) is not None and key not in bad]
        order = [key for key in self._pool.order if key not in bad] if bad else self._pool.order
        planned = [key for key in self.plan.keys if key not in bad and self._pool.path(key)] if self.plan else []
        fresh = grade_candidates(in_play, order, planned)
        if self.kind == "pair":
            fresh = pair_candidates(in_play, order, min(self._config.images, len(order)))
        return [*first, *islice(next_images(rater, fresh, done, self._goal()), _CANDIDATES)]

    def _take_in(self, entry: Vote | Undo) -> None:
        self._ids.add(entry.id)
        state = self._raters[entry.rater]
        if isinstance(entry, Vote):
            self._votes[entry.id] = entry
            state.votes.append(entry)
            state.asked[tuple(sorted(key_of(path) for path in entry.images))] += 1
            state.again = None
            self._in_play.update(dict.fromkeys(key_of(path) for path in entry.images))
        elif entry.undoes in self._votes:
            vote = self._votes.pop(entry.undoes)
            state.votes.remove(vote)
            state.again = vote.images


def _question_id(
    rater: str, kind: Kind, images: tuple[str, ...], image_ids: tuple[str, ...], asked: Counter[tuple[str, ...]]
) -> str:
    """Another one when a file has changed: a vote on the picture of before is then refused."""
    return draw(rater, kind, *images, *image_ids, str(asked[tuple(sorted(images))]))


def name_of(text: str) -> str:
    """A rater's name without needless blanks, in the Unicode form NFC.

    Raises:
        InputError: none, one too long, or one with control characters.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not name or len(name) > 80 or not name.isprintable():
        raise InputError("give a name of 1 to 80 letters")
    return name
