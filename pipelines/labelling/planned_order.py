"""The order of `grmp next` inside the rating page, made in a thread while people rate.

Images are encoded in the folder's random order, so those encoded so far are a random sample of the folder at any time.
The plan is made anew whenever they have doubled, and when enough new labels came in; before the first plan the order is
the folder's, and the page says so. The work of a step does not grow with the folder, and features stay on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from grmp_core.errors import InputError
from grmp_core.ratings.label_table import labels_of
from grmp_core.ratings.rated_set import current_votes
from grmp_core.ratings.vote_log import Vote
from pipelines.configuration.schema import Config
from pipelines.labelling.image_pool import ImagePool, key_of
from pipelines.labelling.own_files import features_path
from pipelines.labelling.questions import WINDOW
from pipelines.runtime.console import say

if TYPE_CHECKING:
    from pipelines.planning.encoder import Encoder
    from pipelines.planning.feature_cache import CachedImage, FeatureCache

FIRST_PLAN = 2 * WINDOW
"""Encoded images that the first plan needs, or all of the folder."""
NEW_LABELS = 5
"""Labels more since the last plan that make a new one."""
_BATCH = 4
_SECONDS_BETWEEN_LOOKS = 1.0
_HEAD_START_S = 10.0
"""So long, at most, the folder is read and the first images are shown before torch is loaded, which takes a core."""


class PlannedOrder:
    """The images to rate next and the answer of the stop rule, as of the last plan. `start` begins the work."""

    def __init__(self, config: Config, pool: ImagePool, votes: Callable[[], list[Vote]]) -> None:
        """votes: all votes so far, without those taken back."""
        self.keys: tuple[str, ...] = ()
        """Keys of images, best first; none before the first plan."""
        self.advice = _before_first_plan(0)
        """The stop rule in a sentence, or how far the first plan is."""
        self._config, self._pool, self._votes = config, pool, votes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="planned-order", daemon=True)
        self._encoded: set[str] = set()
        """Paths that have been looked at."""
        self._usable: list[CachedImage] = []
        self._missing: list[str] = []
        """Paths to look at, the next one last."""
        self._missing_of: tuple[int, tuple[int, str]] | None = None
        """Size of the folder, and the votes, behind `_missing`."""
        self._has_gaps = False
        """Whether another process, which has the cache, had not encoded some of them yet."""
        self._planned_with = (0, -NEW_LABELS)
        self._is_enough = False
        self._labels: dict[str, float] = {}
        self._labels_of = (0, "")
        """Number and last id of the votes behind the labels."""
        self._is_refused = False
        """Whether the last votes gave no labels."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the work; what is encoded is kept."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        until = time.monotonic() + _HEAD_START_S
        while not self._pool.is_complete and time.monotonic() < until:
            self._stopped.wait(_SECONDS_BETWEEN_LOOKS / 10)
            if self._stopped.is_set():
                return
        from pipelines.planning.encoder import Encoder  # the page is there before torch is
        from pipelines.planning.feature_cache import FeatureCache

        try:
            encoder = Encoder(self._config)
            cache = FeatureCache(features_path(self._config), encoder.fingerprint, encoder.width)
            try:
                while not self._stopped.is_set():
                    if not self.step(encoder, cache):
                        self._stopped.wait(_SECONDS_BETWEEN_LOOKS)
            finally:
                cache.close()
        except (InputError, OSError) as error:
            self.keys, self.advice = (), "random order: images cannot be planned"
            say(f"rate: images come in random order from here: {error}")

    def step(self, encoder: Encoder, cache: FeatureCache) -> bool:
        """Encode some images, plan where it is time to; -> whether there was something to do."""
        from pipelines.planning.encoder import encode_files
        from pipelines.planning.image_plan import plan_images

        labels = self._current_labels()
        self._list_missing(labels)
        batch = [self._missing.pop() for _ in range(min(_BATCH, len(self._missing)))]
        found = list(encode_files(encoder, cache, self._pool.folder, batch, workers=1))
        self._has_gaps |= len(found) < len(batch)
        self._encoded |= {image.path for image in found}
        self._usable += [image for image in found if not image.problem]
        usable = self._usable
        is_all = self._pool.is_complete and not self._missing
        images_before, labels_before = self._planned_with
        has_grown = len(usable) >= max(FIRST_PLAN, 2 * images_before) or (is_all and len(usable) > images_before)
        has_learned = images_before > 0 and len(labels) >= labels_before + NEW_LABELS
        if not images_before:
            self.advice = _before_first_plan(len(usable))
        if usable and (has_grown or has_learned):
            self._planned_with = len(usable), len(labels)
            plan = plan_images(
                cache,
                usable,
                labels,
                self._config.next,
                seed=self._config.seed,
                count=WINDOW,
                left_out=self._pool.unusable,
            )
            self.keys, self.advice = tuple(key_of(path) for path in plan.paths), plan.advice()
            if plan.is_enough and not self._is_enough:
                say(f"rate: {self.advice}")
            self._is_enough = plan.is_enough
        return bool(found)

    def _list_missing(self, labels: Mapping[str, float]) -> None:
        """Rated images first, then the folder's sample; made again where folder or votes are others than before."""
        state = len(self._pool), self._labels_of
        if self._missing_of == state and (self._missing or not self._has_gaps):
            return
        sample = self._pool.order[: self._config.next.sample or None]
        wanted = dict.fromkeys(path for path in labels if self._pool.path(key_of(path)) is not None)
        wanted |= dict.fromkeys(self._pool.path(key) or "" for key in sample)
        self._missing = [path for path in wanted if path not in self._encoded][::-1]
        self._missing_of, self._has_gaps = state, False

    def _current_labels(self) -> dict[str, float]:
        """Labels by path, computed again where the votes are others than the last time. Votes that give no labels yet,
        such as pairs without a connection, leave the labels as they were."""
        votes = self._votes()
        state = (len(votes), votes[-1].id if votes else "")
        if state == self._labels_of:
            return self._labels
        self._labels_of = state
        current = current_votes(votes, self._pool.folder, self._pool.image_id).votes
        try:
            rows = labels_of(current, self._config.rate.labels).rows if current else ()
        except InputError as error:
            if not self._is_refused:
                say(f"rate: images are planned without the new votes so far: {error}")
            self._is_refused = True
            return self._labels
        self._labels, self._is_refused = {row.image: row.mos for row in rows}, False
        return self._labels


def _before_first_plan(encoded: int) -> str:
    return f"any order at first: {min(encoded, FIRST_PLAN)} of {FIRST_PLAN} images encoded"
