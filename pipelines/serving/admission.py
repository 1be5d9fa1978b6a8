"""How much a scoring server takes on: images and bytes in work and waiting, and when to come again."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_WINDOW_S = 10.0
_LONGEST_S = 60


class BusyError(Exception):
    """The queue is full. `retry_after_s` is when there should be room."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Admission:
    """The queue of one ingress."""

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self.max_images, self.max_bytes = max_images, max_bytes
        self.images = self.bytes = 0
        self._finished: deque[tuple[float, int]] = deque()

    @contextmanager
    def request(self) -> Iterator[Ticket]:
        """A place in the queue: one image, until the body tells how many. BusyError where there is none."""
        ticket = Ticket(self)
        try:
            ticket.hold(images=1)
            yield ticket
        finally:
            self.images -= ticket.images
            self.bytes -= ticket.bytes

    def has_scored(self, images: int) -> None:
        """Images that left the queue with a score, for `retry_after_s`."""
        now = time.monotonic()
        self._finished.append((now, images))
        while self._finished[0][0] < now - _WINDOW_S:
            self._finished.popleft()

    def retry_after_s(self) -> int:
        """Seconds in which half of the queue should be done, from 1 to 60."""
        now = time.monotonic()
        recent = [entry for entry in self._finished if entry[0] >= now - _WINDOW_S]
        if not recent:
            return 1
        rate = sum(images for _, images in recent) / max(now - recent[0][0], 1.0)
        return max(1, min(_LONGEST_S, math.ceil(self.images / 2 / rate)))


class Ticket:
    """A request's part of the queue, in images and bytes."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.images = self.bytes = 0

    def hold(self, *, images: int = 0, size_bytes: int = 0) -> None:
        """Take more of the queue. BusyError where there is no room; then nothing is taken."""
        queue = self._admission
        if queue.images + images > queue.max_images or queue.bytes + size_bytes > queue.max_bytes:
            raise BusyError(queue.retry_after_s())
        queue.images += images
        queue.bytes += size_bytes
        self.images += images
        self.bytes += size_bytes
