"""The image files that a user names."""

from __future__ import annotations

from grmp_core.imaging.listing import Listing, list_images
from pipelines.runtime.console import say


def listed(path: str) -> Listing:
    """Image files of a folder, glob or file, by path or URI, and a line of what is not taken there.

    InputError when there are none.
    """
    listing = list_images(path)
    if summary := listing.summary():
        say(f"{path}: {summary}")
    return listing
