"""Features of images on disk, known by the content of the image: an image is encoded once, whatever it is called.

A folder below the cache's has the features of one encoder: `features.f16`, rows of D half-precision numbers, and
`index.jsonl`, a line an image: `image_id`, `row` (null where it cannot be used), `quality`, `problem`, and the file as
it was: `path`, `size`, `changed_ns`. Rows are written before their line, so a killed process leaves at most a row
without a line, which the next one writes over.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from grmp_core.errors import InputError
from grmp_core.planning.feature_pool import FeaturePool
from grmp_core.strict_json import json_text

_INDEX, _FEATURES, _LOCK = "index.jsonl", "features.f16", "lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedImage:
    """A line of the index."""

    image_id: str
    """Empty where the image cannot be used."""
    row: int | None
    quality: float
    """Score without a label, in [0, 1]; 0 where the image cannot be used."""
    problem: str
    """Why it cannot be used, empty where it can."""
    path: str
    """As seen from the rated folder."""
    size: int
    changed_ns: int


class FeatureCache:
    """The features of one encoder. One process writes; another one has what is there (`can_write` is false).

    InputError where it cannot be kept there, or is damaged.
    """

    def __init__(self, folder: str, encoder: str, width: int) -> None:
        """encoder: its fingerprint, the name of the folder below `folder`. width: D."""
        self.folder, self.width = os.path.join(folder, encoder), width
        self._by_file: dict[tuple[str, int, int], CachedImage] = {}
        self._by_id: dict[str, CachedImage] = {}
        self._rows = 0
        try:
            os.makedirs(self.folder, exist_ok=True)
            self._lock = os.open(os.path.join(self.folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self.can_write = self._try_lock()
            self._read_index()
            self._check_rows()
            self._features = open(self._path(_FEATURES), "r+b" if os.path.exists(self._path(_FEATURES)) else "w+b")  # noqa: SIM115
            self._index = open(self._path(_INDEX), "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        except OSError as error:
            raise InputError(
                f"{folder}: features cannot be kept there: {error.strerror}; set next.features to a folder that can be "
                "written"
            ) from error

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _read_index(self) -> None:
        try:
            with open(self._path(_INDEX), "rb") as stream:
                whole, newline, torn = stream.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        for number, line in enumerate(whole.split(b"\n") if newline else (), start=1):
            try:
                self._take_in(CachedImage(**json.loads(line.decode("utf-8", "surrogateescape"))))
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{self._path(_INDEX)} line {number} is damaged ({error}); delete {self.folder}, it is made again"
                ) from error
        if torn and self.can_write:
            os.truncate(self._path(_INDEX), len(whole) + len(newline))

    def _check_rows(self) -> None:
        file, needed = self._path(_FEATURES), self._rows * self.width * 2
        size = os.path.getsize(file) if os.path.exists(file) else 0
        if size < needed:
            raise InputError(f"{file} is damaged ({size} of {needed} bytes); delete {self.folder}, it is made again")

    def _take_in(self, image: CachedImage) -> None:
        self._by_file[image.path, image.size, image.changed_ns] = image
        if image.image_id:
            self._by_id[image.image_id] = image
        if image.row is not None:
            self._rows = max(self._rows, image.row + 1)

    def of_file(self, path: str, size: int, changed_ns: int) -> CachedImage | None:
        """An image by its file as it is now."""
        return self._by_file.get((path, size, changed_ns))

    def of_content(self, image_id: str) -> CachedImage | None:
        return self._by_id.get(image_id)

    def add(self, image: CachedImage, features_D: np.ndarray | None) -> CachedImage:
        """Keep an image; `features_D` is null where it cannot be used or has a `row`. OSError on a full disk."""
        if features_D is not None:
            image = CachedImage(**{**asdict(image), "row": self._rows})
            self._features.seek(self._rows * self.width * 2)
            self._features.write(features_D.astype("<f2").tobytes())
            self._features.flush()
        self._index.write(f"{json_text(asdict(image))}\n")
        self._index.flush()
        self._take_in(image)
        return image

    def pool(self, images: Sequence[CachedImage]) -> FeaturePool:
        """Usable images as the planner takes them; their features stay on disk."""
        stored = np.memmap(self._path(_FEATURES), dtype="<f2", mode="r", shape=(self._rows, self.width))
        rows = np.array([image.row for image in images], dtype=int)
        return FeaturePool(stored, rows, np.array([image.quality for image in images]))

    def close(self) -> None:
        """End the hold on the cache."""
        self._features.close()
        self._index.close()
        os.close(self._lock)
