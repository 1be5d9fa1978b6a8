"""Images as base64 text, the form in which JSON carries them."""

from __future__ import annotations

import base64
import binascii
import re

from grmp_core.errors import ImageError

_URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")
_DATA_URI = re.compile(r"^data:image/[a-zA-Z0-9.+-]+;base64,")


def check_no_url(text: str) -> None:
    """ImageError for an address: none is fetched."""
    if _URL.match(text):
        raise ImageError("URLs are not fetched; send the image itself as base64")


def from_base64(text: str, max_characters: int, otherwise: str = "") -> bytes:
    """The bytes of a base64 text, before which `data:image/…;base64,` may stand; white space is skipped.

    Args:
        otherwise: what the text might have been instead, for the message.

    ImageError for a URL, a text that is too long, and what is no base64.
    """
    check_no_url(text)
    if len(text) > max_characters:
        raise ImageError(f"too large: more than {max_characters} characters of base64")
    try:
        return base64.b64decode("".join(_DATA_URI.sub("", text, count=1).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"not base64{otherwise}") from error
