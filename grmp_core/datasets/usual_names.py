"""Columns of a table that are recognized by the names that people and tools usually give them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grmp_core.errors import InputError

IMAGE_NAMES = ("image", "image_path", "img_path", "image_name", "img_name", "filename", "img", "file",
               "path", "dist_img", "name")  # fmt: skip
"""Of the column with the image, the likeliest first; case, blanks, `_` and `-` do not matter."""
SCORE_NAMES = ("mos", "dmos", "mean_opinion_score", "mos_quality", "quality_mos", "mean_score", "score", "quality",
               "rating", "mean_rating")  # fmt: skip
"""Of the column with the human score, likewise."""


WEIGHT_NAME = "weight"
"""Of the column that says how much a label counts in training, spelled like this."""


def recognize(columns: Sequence[str], names: Sequence[str], table: str, what: str, setting: str) -> str:
    """The column whose name comes first in `names`.

    Raises:
        InputError: no column has one of the names, or two columns are spelled alike.
    """
    by_plain: dict[str, list[str]] = {}
    for column in columns:
        by_plain.setdefault(_plain(column), []).append(column)
    found = next((by_plain[_plain(name)] for name in names if _plain(name) in by_plain), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{table}: {' and '.join(map(repr, found))} may both be the {what}; name one by {setting}")
    raise InputError(
        f"{table}: no column with a usual name of the {what} ({', '.join(names)}); the columns are: "
        f"{', '.join(columns) or 'none'}; name it by {setting}"
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()
