"""ICC profiles built byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))


def to_xyz(primaries: Sequence[tuple[float, float]]) -> np.ndarray:
    """(3, 3) from linear RGB, white D65, to XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, D65)


def curve(gamma: float | None) -> bytes:
    """sRGB's, or a power."""
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045) if gamma is None else (gamma,)
    kind = 3 if gamma is None else 0
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + b"".join(map(_fixed, parameters))


def rgb_profile(
    primaries: Sequence[tuple[float, float]], gamma: float | None = None, numbers: tuple[int, int] | None = None
) -> bytes:
    """Colours by primaries with white D65 and one curve; `numbers` of H.273 in a tag `cicp`."""
    cones, wanted = BRADFORD @ D65, BRADFORD @ D50
    adapted = np.linalg.inv(BRADFORD) @ np.diag(wanted / cones) @ BRADFORD @ to_xyz(primaries)
    tags = {b"rXYZ": _xyz(adapted[:, 0]), b"gXYZ": _xyz(adapted[:, 1]), b"bXYZ": _xyz(adapted[:, 2])}
    if numbers:
        tags[b"cicp"] = b"cicp" + bytes(4) + bytes([*numbers, 0, 1])
    return _profile(b"RGB ", {**tags, **{name: curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}})


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Ink i leaves (1 - i) of a primary's light, black that of all; a table of two levels an ink, to L*a*b*."""
    corners = np.stack(np.meshgrid(*(4 * [[0, 1]]), indexing="ij"), axis=-1).reshape(-1, 4)
    light = ((1 - corners[:, :3]) * (1 - corners[:, 3:]) * 255).astype(np.uint8)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = np.frombuffer(to_lab.apply(Image.fromarray(light[None])).tobytes(), np.uint8).reshape(-1, 3)
    stored = (lab ^ (0, 128, 128)).astype(np.uint8).tobytes()  # Pillow has the last two with a sign
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + b"".join(_fixed(v) for v in np.eye(3).flatten())
    ramp = bytes(range(256))
    return _profile(b"CMYK", {b"A2B0": table + 4 * ramp + stored + 3 * ramp}, connection=b"Lab ", kind=b"prtr")


def _profile(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    text = b"a test".ljust(12, b"\0")
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">L", 7) + b"a test\0" + bytes(79), b"wtpt": _xyz(D50), **tags}
    tags[b"cprt"] = b"text" + bytes(4) + text
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">LL", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">L", offset + len(body)) + bytes(4) + b"\x04\x20\0\0" if connection == b"XYZ " else b""
    if not head:
        head = struct.pack(">L", offset + len(body)) + bytes(4) + b"\x02\x20\0\0"
    head += kind + space + connection + bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, D50))
    return head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + table + body


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _fixed(value: float) -> bytes:
    return struct.pack(">l", round(value * 65536))
