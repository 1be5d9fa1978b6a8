"""Damaged image files, any number of them, each made from its number alone.

Half of the cases are damage of any kind, which must come out as an image or an ImageError. In the other half only
metadata are odd: the picture must come out as it is without them, turned as its orientation tells.
"""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.grmp_core.imaging import pictures
from tests.grmp_core.imaging.originals import HEIGHT, WIDTH, originals

NUMBERS = (0, 1, 2, 3, 7, 8, 12, 16, 64, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1)
"""Sizes, counts and offsets are damaged to these and their negatives."""
_AVIF_EXIF_BYTES = 26
"""Of the EXIF that Pillow puts into an AVIF: its head and one tag."""
Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Case:
    """A file, and what is expected of it."""

    name: str
    data: bytes
    same_as: bytes | None = None
    """A file that has the same pixels; without one, any image or an ImageError will do."""
    orientation: int = 1
    """How the pixels are turned against those of `same_as`."""


def case(number: int) -> Case:
    """The same for the same number, whatever was made before."""
    rng = random.Random(number)  # noqa: S311
    if number % 2:
        make = rng.choice((_odd_exif, _odd_exif, _odd_tiff_tags, _odd_png_chunk, _odd_avif_exif))
        return make(rng)
    name = rng.choice(sorted(originals()))
    damage = rng.choice((_change_bytes, _cut, _change_parts, _change_parts, _change_parts))
    return Case(f"{name} {damage.__name__.strip('_')}", damage(rng, name, originals()[name]))


def _change_bytes(rng: random.Random, name: str, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        place = rng.randrange(len(changed))
        if rng.random() < 0.5:
            changed[place] = rng.randrange(256)
        elif rng.random() < 0.5:
            changed[place] ^= 1 << rng.randrange(8)
        else:
            changed[place : place + 4] = _number(rng, rng.choice("<>"), 4)
    if rng.random() < 0.2:  # a piece of the file is lost, comes twice, or is overwritten
        place, length = rng.randrange(len(changed)), rng.randint(1, 64)
        changed[place : place + length] = rng.choice((b"", bytes(length), bytes(changed[place : place + length]) * 2))
    return bytes(changed)


def _cut(rng: random.Random, name: str, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _change_parts(rng: random.Random, name: str, data: bytes) -> bytes:
    """Segments, chunks, boxes or tags lost, swapped, doubled, or changed; checksums of a PNG are put right."""
    fmt = name.split("-", maxsplit=1)[0]
    spans = _PARTS.get(fmt, _blocks)(data)
    parts = [data[first:last] for first, last in spans]
    for _ in range(rng.randint(1, 3)):
        here = rng.randrange(len(parts))
        what = rng.random()
        if what < 0.12 and len(parts) > 1:
            del parts[here]
        elif what < 0.24:
            parts.insert(rng.randrange(len(parts) + 1), parts[here])
        elif what < 0.36:
            there = rng.randrange(len(parts))
            parts[here], parts[there] = parts[there], parts[here]
        else:
            parts[here] = _changed_part(rng, fmt, parts[here])
    if fmt == "png":
        parts = [_with_checksum(part) for part in parts]
    whole = b"".join(parts)
    return data[: spans[0][0]] + whole + data[spans[-1][1] :]


def _changed_part(rng: random.Random, fmt: str, part: bytes) -> bytes:
    """A number somewhere in its first 32 bytes, where sizes and types stand, or anywhere."""
    changed = bytearray(part)
    order = rng.choice("<>")
    width = rng.choice((1, 2, 4))
    reach = 32 if rng.random() < 0.7 else len(part)
    place = rng.randrange(max(1, min(len(part), reach)))
    changed[place : place + width] = _number(rng, order, width)
    return bytes(changed)


def _number(rng: random.Random, order: str, width: int) -> bytes:
    number = rng.choice(NUMBERS) * rng.choice((1, 1, -1)) + rng.choice((-1, 0, 0, 0, 1))
    return (number % 2 ** (8 * width)).to_bytes(width, "little" if order == "<" else "big")


def _with_checksum(part: bytes) -> bytes:
    return part[:-4] + struct.pack(">I", zlib.crc32(part[4:-4])) if len(part) >= 12 else part


def _blocks(data: bytes) -> Spans:
    """Of a format without parts: its head, and the rest in pieces."""
    edges = sorted(edge for edge in {0, *range(14, 62, 8), *range(64, len(data), 256), len(data)} if edge <= len(data))
    return list(itertools.pairwise(edges))


def _png_chunks(data: bytes) -> Spans:
    spans, at = [], 8
    while at < len(data):
        length = struct.unpack_from(">I", data, at)[0] + 12
        spans.append((at, at + length))
        at += length
    return spans


def _jpeg_segments(data: bytes) -> Spans:
    spans, at = [], 2
    while data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0] + 2
        spans.append((at, at + length))
        at += length
    return [*spans, (at, len(data))]


def _riff_chunks(data: bytes) -> Spans:
    spans, at = [], 12
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 4)[0]
        spans.append((at, at + 8 + length + length % 2))
        at = spans[-1][1]
    return spans


def _boxes(data: bytes) -> Spans:
    """Boxes of an ISO media file or of JPEG 2000, those inside `meta` and its like one by one."""
    edges: list[int] = []

    def enter(at: int, end: int) -> None:
        while at + 8 <= end:
            length, name = struct.unpack_from(">I4s", data, at)
            length = length if length >= 8 else end - at
            edges.append(at)
            inside = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"iinf": 14, b"moov": 8, b"trak": 8, b"mdia": 8, b"jp2h": 8}
            if name in inside:
                enter(at + inside[name], at + length)
            at += length

    enter(0, len(data))
    edges = sorted({*edges, len(data)})
    return list(itertools.pairwise(edges))


def _tiff_entries(data: bytes) -> Spans:
    """The entries of its first directory. Of a big TIFF, which has other ones, pieces."""
    order = "<" if data[:2] == b"II" else ">"
    if 43 in data[2:4]:
        return _blocks(data)
    first = struct.unpack_from(f"{order}L", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, first)[0]
    return [(at, at + 12) for at in range(first + 2, first + 2 + 12 * count, 12)]


_PARTS: dict[str, Callable[[bytes], Spans]] = {
    "jpeg": _jpeg_segments,
    "png": _png_chunks,
    "webp": _riff_chunks,
    "avif": _boxes,
    "jp2": _boxes,
    "tiff": _tiff_entries,
}


def _odd_exif(rng: random.Random) -> Case:
    """EXIF of any tags, types, counts, values and pointers, among them perhaps an orientation."""
    order = rng.choice("<>")
    orientation = rng.randrange(10)
    tags = (256, 271, 282, 306, 532, 700, 34665, 34853, rng.randrange(275, 65536))
    entries = [_entry(rng, order, rng.choice(tags)) for _ in range(rng.randrange(8))]
    if rng.random() < 0.7:
        entries.insert(rng.randint(0, len(entries)), pictures.orientation_entry(orientation, order))
    else:
        orientation = 1
    data = pictures.exif(entries, order, rng.randbytes(rng.randrange(200)))
    photo = pictures.photo(HEIGHT, WIDTH)
    fmt = rng.choice(("JPEG", "PNG", "WebP"))
    if fmt == "JPEG":
        plain = pictures.encoded(photo, fmt)
        odd = pictures.jpeg_with_exif(plain, data)
    elif fmt == "PNG":
        plain = pictures.encoded(photo, fmt)
        odd = pictures.png_with_chunk(plain, b"eXIf", data)
    else:
        plain = pictures.encoded(photo, fmt, lossless=True)
        odd = pictures.webp_with_exif(plain, WIDTH, HEIGHT, data)
    return Case(f"{fmt} odd exif", odd, plain, orientation)


def _odd_avif_exif(rng: random.Random) -> Case:
    """Its own boxes turn an AVIF; EXIF in it may hold anything."""
    data = originals()["avif"]
    odd = bytearray(data)
    start = data.index(b"II*\x00")
    for _ in range(rng.randint(1, 6)):
        odd[start + rng.randrange(_AVIF_EXIF_BYTES)] = rng.randrange(256)
    return Case("AVIF odd exif", bytes(odd), data)


def _odd_tiff_tags(rng: random.Random) -> Case:
    """Tags that have nothing to do with pixels."""
    order = rng.choice("<>")
    orientation = rng.randint(1, 8)
    tags = (269, 270, 271, 282, 283, 296, 305, 306, 315, 700, 33723, 34377, 34665, 34675, 34853, 37724)
    entries = [_entry(rng, order, rng.choice(tags)) for _ in range(rng.randint(1, 6))]
    junk = [struct.pack(f"{order}HHL4s", *entry) for entry in entries]
    strips = [pictures.photo(HEIGHT, WIDTH).tobytes()]
    needed = pictures.colour_tags(HEIGHT, WIDTH, 8)
    turned = needed | {pictures.ORIENTATION: (pictures.SHORT, [orientation])}
    plain, odd = pictures.tiff_of(strips, needed, order), pictures.tiff_of(strips, turned, order, junk)
    return Case("TIFF odd tags", odd, plain, orientation)


def _odd_png_chunk(rng: random.Random) -> Case:
    """Chunks that a PNG can be shown without, damaged ones and unknown ones."""
    plain = originals()["png-alpha"]
    names = (b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tIME", b"bKGD", b"tEXt", b"zTXt", b"iTXt", b"abCd")
    key = rng.choice((b"", b"transparency\x00", b"interlace\x00", b"exif\x00", b"profile\x00\x00", b"x" * 90 + b"\x00"))
    return Case(
        "PNG odd chunk",
        pictures.png_with_chunk(plain, rng.choice(names), key + rng.randbytes(rng.randrange(64))),
        plain,
    )


def _entry(rng: random.Random, order: str, tag: int) -> tuple[int, int, int, bytes]:
    count = rng.choice((0, 1, 2, 4, 20, 65535, 2**31, 2**32 - 1))
    value = rng.choice((rng.randbytes(4), struct.pack(f"{order}L", rng.randrange(256))))
    return tag, rng.randrange(20), count, value
