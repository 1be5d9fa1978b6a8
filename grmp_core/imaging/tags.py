"""The few tags of TIFF and EXIF that decide about pixels, read without a parser for all the others.

Nothing here raises for what it reads: a tag that is missing, damaged or of another type has its default.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from typing import IO, Any

NEW_SUBFILE_TYPE = 254
ORIENTATION = 274
DNG_VERSION = 50706
_PROFILE = 34675
ORIENTATION_IN_TEXT = ("Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Texts of a PNG, as Pillow keeps them, in which an orientation may be."""
_INTEGERS = {3: "H", 4: "L", 8: "h", 9: "l"}
"""TIFF's types of whole numbers that fit into an entry, as `struct` spells them."""
_EXIF_START = re.compile(rb"^(Exif\x00\x00){1,2}")
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def first_directory(stream: IO[bytes]) -> dict[int, int | None]:
    """Tag -> its value where that is one whole number, else None: the first directory of a TIFF structure.

    stream: at the structure's begin, which its offsets count from. BigTIFF gives nothing.
    """
    start, head = stream.tell(), stream.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return {}
    stream.seek(start + struct.unpack(f"{order}L", head[4:])[0])
    count = stream.read(2)
    entries = stream.read(12 * struct.unpack(f"{order}H", count)[0]) if len(count) == 2 else b""
    values: dict[int, int | None] = {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHL", entries, at)
        whole = kind in _INTEGERS and number == 1
        values.setdefault(tag, struct.unpack_from(order + _INTEGERS[kind], entries, at + 8)[0] if whole else None)
    return values


def profile_in(stream: IO[bytes], max_bytes: int) -> bytes | None:
    """The colour profile of a TIFF file's first directory; null where there is none, or it does not lie in the file.

    The stream stays where it is. BigTIFF gives nothing.
    """
    before = stream.tell()
    try:
        stream.seek(0)
        head = stream.read(8)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            return None
        stream.seek(struct.unpack(f"{order}L", head[4:])[0])
        count = stream.read(2)
        entries = stream.read(12 * struct.unpack(f"{order}H", count)[0]) if len(count) == 2 else b""
        for at in range(0, len(entries) - 11, 12):
            tag, _, length, offset = struct.unpack_from(f"{order}HHLL", entries, at)
            if tag == _PROFILE and 4 < length <= max_bytes:
                stream.seek(offset)
                profile = stream.read(length)
                return profile if len(profile) == length else None
        return None
    finally:
        stream.seek(before)


def orientation_in(info: Mapping[Any, Any]) -> int:
    """The orientation, 1..8, that a file's EXIF tells, or its XMP where EXIF has none; 1 (upright) by default.

    info: as Pillow fills `Image.info`, with the undecoded metadata in it.
    """
    exif = info.get("exif")
    if exif is None:
        exif = _exif_in_text(info.get("Raw profile type exif"))
    told = first_directory(io.BytesIO(_EXIF_START.sub(b"", exif))).get(ORIENTATION) if isinstance(exif, bytes) else None
    if told is None:
        xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
        match = _XMP_ORIENTATION.search(xmp.encode(errors="replace") if isinstance(xmp, str) else bytes(xmp))
        told = int(match[1]) if match else 1
    return valid_orientation(told)


def valid_orientation(told: object) -> int:
    """The value itself where it is one of the eight that exist, else 1."""
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def _exif_in_text(text: object) -> bytes | None:
    """EXIF as ImageMagick writes it into a PNG's text: three lines of heading, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(str(text).split("\n")[3:])) if text else None
    except ValueError:
        return None
