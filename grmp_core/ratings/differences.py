"""Differences to a reference that the same rater has graded, hidden among the others (ITU-T P.910, ACR-HR).

P.910's differential score of a vote is V(image) - V(reference) + 5, higher for a better image. Here it is 5 minus that,
V(reference) - V(image), as most published DMOS are: 0 for an image as good as its reference, higher for a worse one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from grmp_core.datasets.tables import open_table
from grmp_core.errors import InputError
from grmp_core.ratings.grades import Grades
from grmp_core.storage import locate


def differences_of(grades: Grades, reference_of: Mapping[str, str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Images with a reference, and how far each rater grades them below it; float64 (images, raters), NaN where a rater
    has not graded both. An image that is its own reference has no difference and is left out.

    Raises:
        InputError: a graded image that `reference_of` lacks, a reference that nobody has graded, or nothing to compare.
    """
    index = {image: i for i, image in enumerate(grades.images)}
    unknown = [image for image in grades.images if image not in reference_of and image not in reference_of.values()]
    if unknown:
        raise InputError(f"{len(unknown)} graded images have no reference, such as {unknown[0]}; add them to the table")
    images = [image for image in grades.images if reference_of.get(image, image) != image]
    ungraded = sorted({reference_of[image] for image in images} - set(index))
    if ungraded:
        raise InputError(f"{len(ungraded)} references have no grade, such as {ungraded[0]}; rate them like any image")
    if not images:
        raise InputError("no graded image has a reference other than itself; there is nothing to compare")
    rows_I = np.array([index[image] for image in images])
    originals_I = np.array([index[reference_of[image]] for image in images])
    return tuple(images), grades.values_IR[originals_I] - grades.values_IR[rows_I]


def read_references(path: str) -> dict[str, str]:
    """Image -> its reference, both as seen from the rated folder, from a table with the columns image and reference.

    Raises:
        InputError: no such table, a column is missing, an empty cell, or an image with two references.
    """
    reference_of: dict[str, str] = {}
    for where, (image, reference) in open_table(locate(path)).rows(("image", "reference")):
        if not image or not reference:
            raise InputError(f"{where}: image and reference must both be named")
        if reference_of.setdefault(str(image), str(reference)) != str(reference):
            raise InputError(f"{where}: {image} has another reference above; keep one row an image")
    return reference_of
