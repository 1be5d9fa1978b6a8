"""The kind of a file, told by its content: its name may say anything, or nothing."""

from __future__ import annotations

import struct
from typing import IO

from grmp_core.imaging.tags import DNG_VERSION, NEW_SUBFILE_TYPE, first_directory

HEAD_BYTES = 64
"""How many of a file's first bytes `kind_of_head` looks at."""

UNREAD_KINDS: dict[str, str] = {
    "HEIC": "HEIC, which needs the extra `formats` (pip install 'grmp-iqa[formats]'); or convert it to JPEG",
    "JPEG XL": "JPEG XL, which needs the extra `formats` (pip install 'grmp-iqa[formats]'); or convert it to PNG",
    "camera raw": "raw data of a camera, which are not decoded; develop it to JPEG, PNG or TIFF",
    "Parquet": "a table, whose images grmp score takes when it is named itself, or by a pattern such as '*.parquet'",
}
"""Kinds of files that are recognized and not decoded, with what a person can do."""

_DIB_HEADER_BYTES = (12, 16, 40, 52, 56, 64, 108, 124)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_AVIF_BRANDS = (b"avif", b"avis")
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"IIRO", "camera raw"),  # Olympus
    (b"IIRS", "camera raw"),
    (b"MMOR", "camera raw"),
    (b"IIU\x00", "camera raw"),  # Panasonic
    (b"FOVb", "camera raw"),  # Sigma
    (b"PAR1", "Parquet"),
)
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II\x00*", b"MM*\x00", b"II+\x00", b"MM\x00+")


def kind_of(stream: IO[bytes]) -> str | None:
    """The kind of a file, from its begin; None where it is none that is known.

    Most raw files of cameras are TIFF files whose first picture is a small preview: they are told by their tags.
    """
    start = stream.tell()
    kind = kind_of_head(stream.read(HEAD_BYTES))
    if kind == "TIFF":
        stream.seek(start)
        tags = first_directory(stream)
        if DNG_VERSION in tags or (tags.get(NEW_SUBFILE_TYPE) or 0) & 1:
            return "camera raw"
    return kind


def kind_of_head(head: bytes) -> str | None:
    """The same from the first `HEAD_BYTES` bytes alone, `TIFF` for most raw files of cameras."""
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head.startswith(_TIFF_STARTS):
        return "camera raw" if head[8:10] == b"CR" else "TIFF"  # Canon's CR2
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _kind_of_brands(head)
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3] in b" \t\r\n#":
        return "PPM"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_HEADER_BYTES:
        return "BMP"
    return "DIB" if _is_dib(head) else None


def _kind_of_brands(head: bytes) -> str | None:
    """Of an ISO media file: `mif1` alone says nothing about how the pixels are coded."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, length - 3, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIC_BRANDS:
            return "HEIC"
        if brand == b"crx ":
            return "camera raw"  # Canon's CR3
    return "HEIC" if brands[0] in (b"mif1", b"msf1") else None


def _is_dib(header: bytes) -> bool:
    """True where a Windows bitmap's header begins: its length, one plane, a number of bits that exists."""
    if len(header) < 16:
        return False
    (length,) = struct.unpack_from("<I", header)
    planes, bits = struct.unpack_from("<HH", header, 8 if length == 12 else 12)
    return length in _DIB_HEADER_BYTES and planes == 1 and bits in (1, 4, 8, 16, 24, 32)
