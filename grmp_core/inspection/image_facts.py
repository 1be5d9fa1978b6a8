"""Facts of an image file beside its pixels: kind, size, and the hashes that find equal and nearly equal ones."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from grmp_core.errors import ImageError
from grmp_core.imaging.decoding import ImageLimits, decode_image, image_bytes, image_id
from grmp_core.imaging.kinds import kind_of
from grmp_core.inspection.near_duplicates import hash_of


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """One image; plain values, so that it travels in a Ray Data row. With an `error` the rest is empty."""

    error: str = ""
    """Why it cannot be read."""
    image_id: str = ""
    """Of its bytes."""
    kind: str = ""
    """As its content says, whatever its name: JPEG, PNG, …"""
    width_px: int = 0
    height_px: int = 0
    size_bytes: int = 0
    perceptual_hash: int = 0


def facts_of(path: str, limits: ImageLimits) -> ImageFacts:
    """Facts of an image by path or URI."""
    try:
        data = image_bytes(path)
        image = decode_image(data, limits)
        return ImageFacts(
            image_id=image_id(data),
            kind=kind_of(BytesIO(data)) or "",
            width_px=image.shape[1],
            height_px=image.shape[0],
            size_bytes=len(data),
            perceptual_hash=hash_of(image),
        )
    except ImageError as error:
        return ImageFacts(error=error.reason)
