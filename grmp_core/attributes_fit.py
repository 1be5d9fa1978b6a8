"""Makes `assets/own_quality.csv`, and prints the ends of the attributes.

    python -m grmp_core.attributes_fit PHOTOS [--photos 100] [--write]

PHOTOS: a folder of pristine photos, at best of about KADID-10k's size.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import isotonic_regression

from grmp_core.attributes import ATTRIBUTES, CURVES, measures
from grmp_core.calibration import PRISTINE_QUALITY, quality_of
from grmp_core.distortions import get
from grmp_core.errors import InputError
from grmp_core.images import evenly_chosen, read_image
from grmp_core.seeds import generator_of

TYPES = {
    "softness": ("gaussian_blur", "lens_blur", "motion_blur"),
    "dimness": ("darken",),
    "glare": ("brighten",),
}
"""Name of a curve -> the types of KADID-10k that make photos so."""
STRONGEST = (("gaussian_blur", 5), ("darken", 5), ("saturation_hsv", 4))
"""By attribute, what makes its poor end; level 5 of the last inverts colours instead of taking them."""
LEVELS = range(1, 6)
NUM_KNOTS = 12


def measures_of(photos: Sequence[str], name: str, level: int) -> np.ndarray:
    """(photos, 3) measures of the photos with a distortion; level 0: of the photos as they are."""

    def pixels(path: str) -> np.ndarray:
        image = read_image(path)
        rng = generator_of("own quality", path.rpartition("/")[2], name, level)
        return get(name)(image, float(level), rng) if level else image

    return np.stack([measures(pixels(path)) for path in photos])


def fit_curve(measure_N: np.ndarray, quality_N: np.ndarray, rising: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean quality along a measure as a monotone curve: (measures, qualities), each (NUM_KNOTS,).

    Means over equal numbers of pictures, made monotone, scaled so that the best is an undamaged picture's.
    """
    if len(measure_N) < NUM_KNOTS:
        raise InputError(f"{len(measure_N)} pictures cannot make a curve of {NUM_KNOTS} knots; use more photos")
    bins = np.array_split(np.argsort(measure_N, kind="stable"), NUM_KNOTS)
    means = isotonic_regression([quality_N[rows].mean() for rows in bins], increasing=rising).x
    return np.array([measure_N[rows].mean() for rows in bins]), means / means.max() * PRISTINE_QUALITY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--photos", type=int, default=100, help="evenly taken from the folder (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the package's table")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        fits = fit(evenly_chosen(options.folder, options.photos))
    except InputError as error:
        parser.error(str(error))
    if options.write:
        write(Path(str(resources.files("grmp_core") / "assets" / "own_quality.csv")), fits)


def fit(photos: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of a curve -> its (measures, qualities); prints them, and the ends of the attributes."""
    undistorted = measures_of(photos, "gaussian_blur", 0)
    rich = np.percentile(undistorted, 95, axis=0)
    for i, (name, level) in enumerate(STRONGEST):
        print(f"{ATTRIBUTES[i]}: {measures_of(photos, name, level)[:, i].mean():.2f} to {rich[i]:.2f}")
    fits = {}
    for curve, types in TYPES.items():
        column = ATTRIBUTES.index(CURVES[curve])
        found, qualities = [], []
        for name in types:
            found += [undistorted[:, column], *(measures_of(photos, name, level)[:, column] for level in LEVELS)]
            qualities += [PRISTINE_QUALITY, *(quality_of(name, float(level)) for level in LEVELS)]
        fits[curve] = fit_curve(np.concatenate(found), np.repeat(qualities, len(photos)), rising=curve != "glare")
        print(curve, ", ".join(f"{x:.2f}: {y:.2f}" for x, y in zip(*fits[curve], strict=True)))
    return fits


def write(path: Path, fits: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["curve", "measure", "quality"])
        for name, points in fits.items():
            writer.writerows([name, f"{x:.4f}", f"{y:.4f}"] for x, y in zip(*points, strict=True))


if __name__ == "__main__":
    main()
