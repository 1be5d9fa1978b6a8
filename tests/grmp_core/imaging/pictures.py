"""Image files built byte by byte, for what no encoder writes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

SHORT, LONG, RATIONAL = 3, 4, 5
ORIENTATION = 274
_SIZES = {1: "B", 2: "B", SHORT: "H", LONG: "L", 8: "h", 9: "l"}


def photo(height: int = 40, width: int = 56) -> np.ndarray:
    """A small picture, no part of which looks like another, whichever way it is turned."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, 255 - rows * columns // 12], axis=2).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, fmt: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF's eight orientations, each as its own definition of where the first row and column lie."""
    turned = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, -1)[::-1],
        8: lambda a: np.rot90(a, 1),
    }
    return turned.get(orientation, lambda a: a)(stored)


def exif(entries: Sequence[tuple[int, int, int, bytes]], order: str = "<", rest: bytes = b"") -> bytes:
    """A TIFF structure: (tag, type, number of values, four bytes of value or offset); `rest` follows the directory."""
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}L", 8)
    packed = [struct.pack(f"{order}HHL", *entry[:3]) + entry[3].ljust(4, b"\x00")[:4] for entry in entries]
    return head + struct.pack(f"{order}H", len(entries)) + b"".join(packed) + bytes(4) + rest


def orientation_entry(value: int, order: str = "<", kind: int = SHORT) -> tuple[int, int, int, bytes]:
    return ORIENTATION, kind, 1, struct.pack(order + _SIZES[kind], value)


def jpeg_with_exif(jpeg: bytes, metadata: bytes) -> bytes:
    body = b"Exif\x00\x00" + metadata
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """The chunk comes after the header."""
    return png[:33] + chunk(name, data) + png[33:]


def png_of(samples: np.ndarray, colour_type: int, bits: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (H, W, channels) samples; depths below 8 bits have a channel and whole bytes a row."""
    height, width = samples.shape[:2]
    if bits < 8:
        spread = np.unpackbits(samples.astype(np.uint8).reshape(height, -1, 1), axis=2)[:, :, 8 - bits :]
        rows = np.packbits(spread.reshape(height, -1), axis=1)
    else:
        rows = samples.astype(">u2" if bits == 16 else np.uint8).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    before = b"".join(chunk(name, data) for name, data in chunks)
    data = zlib.compress(b"".join(b"\x00" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp_with_exif(webp: bytes, width: int, height: int, metadata: bytes) -> bytes:
    """A simple WebP made an extended one."""

    def riff(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + riff(b"VP8X", b"\x08\x00\x00\x00" + sides) + webp[12:] + riff(b"EXIF", metadata)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_of(
    strips: Sequence[bytes], tags: Mapping[int, tuple[int, Sequence[int]]], order: str = "<", junk: Sequence[bytes] = ()
) -> bytes:
    """An uncompressed TIFF. Its StripOffsets and StripByteCounts are filled in.

    tags: number -> type and values. junk: entries of 12 bytes that go in by their tags.
    """
    all_tags = {**tags, 273: (LONG, [0] * len(strips)), 279: (LONG, [len(strip) for strip in strips])}
    directory_bytes = 2 + 12 * (len(all_tags) + len(junk)) + 4
    outside = sum(_packed(order, kind, values)[1] for kind, values in all_tags.values())
    first = 8 + directory_bytes + outside
    all_tags[273] = (LONG, [first + sum(len(strip) for strip in strips[:i]) for i in range(len(strips))])
    entries, more = [], b""
    for tag, (kind, values) in all_tags.items():
        data, far = _packed(order, kind, values)
        value = struct.pack(f"{order}L", 8 + directory_bytes + len(more)) if far else data.ljust(4, b"\x00")
        more += data if far else b""
        entries.append(struct.pack(f"{order}HHL", tag, kind, len(values)) + value)
    entries = sorted([*entries, *junk], key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}L", 8)
    return head + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4) + more + b"".join(strips)


def grey_tags(height: int, width: int, bits: int, photometric: int = 1) -> dict[int, tuple[int, list[int]]]:
    """The tags of a grey TIFF in one strip."""
    return {
        256: (SHORT, [width]),
        257: (SHORT, [height]),
        258: (SHORT, [bits]),
        259: (SHORT, [1]),
        262: (SHORT, [photometric]),
        277: (SHORT, [1]),
        278: (SHORT, [height]),
    }


def colour_tags(height: int, width: int, bits: int, channels: int = 3) -> dict[int, tuple[int, list[int]]]:
    """The tags of an RGB TIFF, with an alpha channel as the fourth."""
    tags = grey_tags(height, width, bits, 2)
    tags |= {258: (SHORT, [bits] * channels), 277: (SHORT, [channels])}
    return tags | ({338: (SHORT, [2])} if channels == 4 else {})


def twelve_bits(samples: np.ndarray) -> bytes:
    """12-bit samples (H, W), packed two in three bytes; W even."""
    pairs = samples.astype(np.uint16).reshape(-1, 2)
    first, second = pairs[:, 0], pairs[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    return packed.astype(np.uint8).tobytes()


def _packed(order: str, kind: int, values: Sequence[int]) -> tuple[bytes, int]:
    """Values as bytes, and how many of them do not fit into an entry."""
    data = struct.pack(f"{order}{len(values)}{_SIZES[kind]}", *values)
    return data, len(data) if len(data) > 4 else 0
