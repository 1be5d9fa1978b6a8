"""Small pictures for pages."""

from __future__ import annotations

import io

from PIL import Image

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.decoding import ImageLimits, read_image
from grmp_core.storage import locate


def thumbnail(path: str, longest_px: int, limits: ImageLimits) -> tuple[bytes | None, str | None]:
    """-> a JPEG of at most `longest_px` a side and null, or null and the reason why there is none."""
    try:
        file = locate(path)
        image = read_image(file.path if file.is_local else file.read_bytes(), limits)
    except ImageError as error:
        return None, error.reason
    except (InputError, OSError) as error:
        return None, " ".join(str(error).split())
    small = Image.fromarray(image)
    small.thumbnail((longest_px, longest_px))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return buffer.getvalue(), None
