"""Decoded photos in one flat file, mapped into memory: training reads crops of them without decoding anything.

A store is a folder with `pixels.bin` (uint8 RGB, photo after photo) and `index.json` (a row per photo, in file order).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.strict_json import json_text


@dataclass(frozen=True, kw_only=True)
class PhotoRow:
    name: str
    """File name, without its folder."""
    source: str
    """The set that it belongs to."""
    score: float | None
    """Mean human score in [0,1], higher better; None where nobody rated it."""
    sha256: str
    """Of the file's content."""
    height_px: int
    width_px: int
    offset: int
    """Where its pixels begin in `pixels.bin`."""


@dataclass(frozen=True, kw_only=True)
class SourcePhoto:
    path: Path
    source: str
    score: float | None = None


class PhotoStore:
    """The photos of `folder`, by number. InputError where there is no store or its file is cut off."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "index.json").is_file():
            raise InputError(f"'{folder}' holds no photo store; make one with `prepare` first")
        self.rows = [PhotoRow(**row) for row in json.loads((self.folder / "index.json").read_text())]
        self._bytes = np.memmap(self.folder / "pixels.bin", dtype=np.uint8, mode="r")
        last = self.rows[-1]
        if last.offset + last.height_px * last.width_px * 3 != len(self._bytes):
            raise InputError(f"'{folder}/pixels.bin' does not fit its index; make the store anew")

    def __reduce__(self) -> tuple[type[PhotoStore], tuple[Path]]:
        """Another process opens the file again instead of being sent its content."""
        return PhotoStore, (self.folder,)

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, a view into the file: read it, never write to it."""
        row = self.rows[number]
        size = row.height_px * row.width_px * 3
        return self._bytes[row.offset : row.offset + size].reshape(row.height_px, row.width_px, 3)


def write_store(folder: str | Path, photos: Iterable[SourcePhoto]) -> list[str]:
    """Decode `photos` into a new store; -> the names of those that could not be read and are left out."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    unreadable: list[str] = []
    offset = 0
    with (folder / "pixels.bin").open("wb") as file:
        for photo in photos:
            try:
                image = read_image(photo.path)
            except InputError:
                unreadable.append(photo.path.name)
                continue
            row = PhotoRow(
                name=photo.path.name,
                source=photo.source,
                score=photo.score,
                sha256=hashlib.sha256(photo.path.read_bytes()).hexdigest(),
                height_px=image.shape[0],
                width_px=image.shape[1],
                offset=offset,
            )
            file.write(np.ascontiguousarray(image).data)
            offset += image.size
            rows.append(asdict(row))
    temporary = folder / "index.json.tmp"
    temporary.write_text(json_text(rows))
    os.replace(temporary, folder / "index.json")
    return unreadable
