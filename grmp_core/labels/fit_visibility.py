"""Makes `assets/visibility.csv` and prints how well it explains the spread of human scores.

    python -m grmp_core.labels.fit_visibility PHOTOS [--photos 48] [--write]

PHOTOS: a folder of pristine photos, at best of about KADID-10k's size.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

from grmp_core.distortions import KADID_NAMES, REGISTRY, get
from grmp_core.errors import InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.imaging.listing import evenly_chosen
from grmp_core.labels.human_means import quality_of, spreads
from grmp_core.labels.visibility import MEASURES, Appearance, VisibilityCurve
from grmp_core.seeds import generator_of

LEVELS = range(1, 6)
NUM_BOOTSTRAPS = 2000


Fit = tuple[dict[str, VisibilityCurve], np.ndarray]
"""Measure -> curve of one type, and the variance (5,) that they predict within each level."""


def measure_differences(photos: Sequence[str]) -> dict[str, np.ndarray]:
    """Type -> (measures, 5, photos) differences that its levels make."""
    differences_by_type = {name: np.zeros((len(MEASURES), 5, len(photos))) for name in REGISTRY}
    for i, path in enumerate(photos):
        image = read_image(path)
        appearance = Appearance(image)
        for name, differences in differences_by_type.items():
            for level in LEVELS:
                rng = generator_of("visibility", path.rpartition("/")[2], name, level)
                differences[:, level - 1, i] = appearance.differences(get(name)(image, float(level), rng))
    return differences_by_type


def fit_type(name: str, differences: np.ndarray) -> Fit:
    """differences: (measures, 5, photos)."""
    fitted = [fit_curve(name, measured) for measured in differences]
    together = np.mean([predicted for _, predicted in fitted], axis=0)
    return dict(zip(MEASURES, (curve for curve, _ in fitted), strict=True)), together.var(axis=1)


def fit_curve(name: str, differences: np.ndarray) -> tuple[VisibilityCurve, np.ndarray]:
    """The monotone least-squares curve through a type's levels, and its quality of each of the (5, photos) pictures."""
    means = differences.mean(axis=1)
    order = np.argsort(means, kind="stable")
    human = np.array([quality_of(name, float(level)) for level in LEVELS])
    fitted = np.empty(5)
    fitted[order] = isotonic_regression(human[order], increasing=False).x
    bare = VisibilityCurve(tuple(means), tuple(fitted), ())
    predicted = bare.quality_at(differences)
    return VisibilityCurve(bare.differences, bare.qualities, tuple(predicted.mean(axis=1))), predicted


def fit_strength(predicted: np.ndarray, human: np.ndarray, means: np.ndarray) -> float:
    """STRENGTH²: slope of the human variance on the predicted one, beside a part that is largest mid-scale.

    Each (types, 5): variances within cells and mean qualities, on [0, 1].
    """
    columns = np.stack([np.ones(means.size), (means * (1 - means)).ravel(), predicted.ravel()], axis=1)
    return float(np.linalg.lstsq(columns, human.ravel(), rcond=None)[0][2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--photos", type=int, default=48, help="evenly taken from the folder")
    parser.add_argument("--write", action="store_true", help="write the package's table")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        paths = evenly_chosen(options.folder, options.photos)
        fits = {name: fit_type(name, differences) for name, differences in measure_differences(paths).items()}
    except InputError as error:
        parser.error(str(error))
    human = spreads()

    def cells(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        means = [[quality_of(name, float(level)) for level in LEVELS] for name in names]
        return np.stack([fits[n][1] for n in names]), np.array([human[n] for n in names]) ** 2, np.array(means)

    kadid = cells(KADID_NAMES)
    slope = fit_strength(*kadid)
    rng = generator_of("visibility bootstrap")
    picks = [rng.integers(0, len(KADID_NAMES), len(KADID_NAMES)) for _ in range(NUM_BOOTSTRAPS)]
    low, high = np.percentile([fit_strength(*(part[pick] for part in kadid)) for pick in picks], [2.5, 97.5])
    print(f"{len(paths)} photos, {kadid[0].size} cells of KADID-10k")
    print(
        f"strength² {slope:.3f}, 95 % interval over types {low:.3f} to {high:.3f}; strength {max(0, slope) ** 0.5:.3f}"
    )
    print(f"explains {slope * kadid[0].mean() / kadid[1].mean():.1%} of the variance of human scores within cells")
    print(f"Spearman of predicted and human variance: {spearmanr(kadid[0].ravel(), kadid[1].ravel())[0]:.2f}")
    own = cells([name for name in REGISTRY if name not in KADID_NAMES])
    held_out = spearmanr(own[0].ravel(), own[1].ravel())
    print(f"  on the {own[0].size} cells of TID2013's own types: {held_out[0]:.2f} (p {held_out[1]:.1g})")
    if options.write:
        write(Path(str(resources.files("grmp_core") / "assets" / "visibility.csv")), {n: f[0] for n, f in fits.items()})


def write(path: Path, fitted: dict[str, dict[str, VisibilityCurve]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["type_name", "measure", "level", "difference", "quality", "expected"])
        for name, by_measure in fitted.items():
            for (measure, curve), level in itertools.product(by_measure.items(), LEVELS):
                values = (column[level - 1] for column in (curve.differences, curve.qualities, curve.expected))
                writer.writerow([name, measure, level, *(f"{value:.4f}" for value in values)])


if __name__ == "__main__":
    main()
