"""How many labels intervals hold, and how many images that are no photos are found to be unlike.

    python -m tests.benchmarks.coverage --photos livec=MATERIAL_OF_LIVEC:100 ss02=MATERIAL_OF_SS02 --draws 100
    python -m tests.benchmarks.coverage --material MATERIAL --draws 20
    python -m tests.benchmarks.coverage --sweep runs/livec/sweep

The first takes folders that `grmp train_backbone prepare` has written (`:100` where scores go from 0 to 100 and not to
1), and measures with the cheap learner: residual
ridge on frozen features of the embedded backbone, with folds and intervals as adaptation has them. Labels of each
target are drawn at random; photos of the others show what happens where images are not like the labelled ones. What is
measured of photos is kept in `--cache` by the hash of the weights. Intervals of one width stand beside those that are
scaled. The second does the same with held-out photos of training, on which that was chosen. The third reads the adapted
models of a sweep.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from grmp_core.confidence.domain import Domain, domain_of
from grmp_core.confidence.evidence import Evidence
from grmp_core.confidence.intervals import interval_of, margin_of
from grmp_core.confidence.unlike import Likeness
from grmp_core.evaluation.ridge import residual_ridge
from grmp_core.imaging.decoding import decode_image
from grmp_core.imaging.listing import list_images
from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.bundle import DESCRIPTION, read_bundle
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.model.vision_tower import open_vision_tower
from grmp_core.model.zero_shot import zero_shot_quality
from grmp_core.nano.material import RATED, read_material
from grmp_core.nano.photo_store import PhotoStore
from grmp_core.storage import locate
from pipelines.backbone_training.domain_asset import photo_statistics
from pipelines.backbone_training.target_tables import CHANGES
from pipelines.results.sweep_folder import SweepFolder
from pipelines.runtime.console import table
from tests.benchmarks.unlike_pictures import KINDS

SHOTS = (25, 50, 200)
FOLDS = 3
COVERAGE, SHARE = 0.9, 0.05
PICTURES, FIRST_SEED = 50, 1000
"""Of each kind; settings were chosen with other seeds."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Photos of a target as the embedded backbone sees them."""

    statistics_NF: np.ndarray
    base_N: np.ndarray
    """Quality in [0, 1] without a label."""
    quality_N: np.ndarray
    """Human scores in [0, 1]."""
    early_size: int

    @property
    def pooled(self) -> np.ndarray:
        return self.statistics_NF[:, self.early_size :]


def measure(backbone: Backbone, photos: Iterable[np.ndarray], scores_N: np.ndarray) -> Measured:
    """Statistics of photos, and their quality by the mean of the pooled tokens of their views."""
    statistics_NF = photo_statistics(backbone, photos)
    tower = open_vision_tower(backbone.clip)
    pooled_ND = torch.from_numpy(statistics_NF[:, tower.width :]).to(next(backbone.clip.parameters()).dtype)
    with torch.inference_mode():
        unit_NE = F.normalize(tower.project(pooled_ND).float(), dim=-1)
        base_N = zero_shot_quality(backbone, unit_NE)
    return Measured(statistics_NF=statistics_NF, base_N=base_N, quality_N=scores_N, early_size=tower.width)


def measured_held_out(backbone: Backbone, material: Path, change: str, cache: Path) -> Measured:
    """Held-out photos of the backbone's training through a change of capture: what settings are chosen on."""
    file = cache / f"held-out-{change}-{backbone.weights_sha256[:12]}.npz"
    if not file.exists():
        found = read_material(material)
        numbers = np.random.default_rng(7).permutation(found.validation(RATED))[:400]
        scores_N = np.array([found.store.rows[int(n)].score for n in numbers], dtype=float)
        _keep(file, measure(backbone, (CHANGES[change](found.store.pixels(int(n))) for n in numbers), scores_N))
    return _kept(file)


def _keep(file: Path, found: Measured) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **vars(found))


def _kept(file: Path) -> Measured:
    content = dict(np.load(file))
    return Measured(**{**content, "early_size": int(content["early_size"])})


def measured_target(backbone: Backbone, name: str, folder: str, cache: Path) -> Measured:
    """Photos of a folder of `prepare`, measured once for the weights."""
    file = cache / f"{name}-{backbone.weights_sha256[:12]}.npz"
    if not file.exists():
        store = PhotoStore(folder)
        rated = [i for i, row in enumerate(store.rows) if row.score is not None]
        scores_N = np.array([store.rows[i].score for i in rated], dtype=float)
        _keep(file, measure(backbone, (store.pixels(i) for i in rated), scores_N))
    return _kept(file)


def predict(target: Measured, labelled: np.ndarray, other: Measured, rows: np.ndarray) -> np.ndarray:
    """Quality of `rows` of `other` by residual ridge on the labelled photos of `target`, in [0, 1]."""
    known = target.pooled[labelled], target.base_N[labelled], target.quality_N[labelled]
    return np.clip(residual_ridge(*known, other.pooled[rows], other.base_N[rows]), 0, 1)


def held_out(target: Measured, labelled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Predictions of the labelled photos by folds."""
    fold_N = rng.permutation(np.arange(len(labelled)) % FOLDS)
    predicted_N = np.empty(len(labelled))
    for fold in range(FOLDS):
        own = fold_N == fold
        predicted_N[own] = predict(target, labelled[~own], target, labelled[own])
    return predicted_N


def cover(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(share inside the interval, mean width in points of 100)."""
    return float(np.mean((low <= truth) & (truth <= high))), float(100 * np.mean(high - low))


def coverage_rows(targets: dict[str, Measured], draws: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, target in targets.items():
        for shots in SHOTS:
            found: dict[str, list[tuple[float, float, float, float]]] = {other: [] for other in targets}
            for draw in range(draws):
                rng = np.random.default_rng([draw, shots])
                order = rng.permutation(len(target.quality_N))
                labelled, rest = order[:shots], order[shots:]
                known, truth = held_out(target, labelled, rng), target.quality_N[labelled]
                margin = margin_of(known, truth, COVERAGE)
                constant = float(np.quantile(np.abs(truth - known), COVERAGE, method="weibull"))
                for other_name, other in targets.items():
                    test = rest if other is target else np.arange(len(other.quality_N))
                    predicted = predict(target, labelled, other, test)
                    plain = np.clip(predicted - constant, 0, 1), np.clip(predicted + constant, 0, 1)
                    scaled = interval_of(predicted, margin)
                    found[other_name].append(
                        (*cover(*scaled, other.quality_N[test]), *cover(*plain, other.quality_N[test]))
                    )
            for other_name, values in found.items():
                covered, width, plain_covered, plain_width = np.array(values).T
                low, high = np.percentile(covered, (5, 95))
                rows.append(
                    {
                        "labels of": name, "photos of": other_name, "labels": shots, "coverage": covered.mean(),
                        "5 % to 95 % of draws": f"{low:.3f} to {high:.3f}", "width": width.mean(),
                        "of one width": plain_covered.mean(), "that width": plain_width.mean(),
                    }
                )  # fmt: skip
    return rows


def unlike_rows(
    targets: dict[str, Measured], pictures: dict[str, np.ndarray], domain: Domain | None, draws: int
) -> list[dict[str, object]]:
    """Mean shares of photos and of pictures that are found to be unlike."""
    rows: list[dict[str, object]] = []
    for name, target in targets.items():
        for shots in SHOTS:
            shares = []
            for draw in range(draws):
                order = np.random.default_rng([draw, shots]).permutation(len(target.quality_N))
                labelled, rest = order[:shots], order[shots:]
                known = (target.base_N[labelled], target.quality_N[labelled], target.statistics_NF[labelled])
                names = tuple(map(str, labelled))
                evidence = Evidence.of(*known, names, early_size=target.early_size, deep=True)
                likeness = Likeness(evidence, domain, SHARE)
                looked_at = {"photos (false alarms)": target.statistics_NF[rest], **pictures}
                looked_at["all pictures"] = np.concatenate(list(pictures.values()))
                elsewhere = [other.statistics_NF for other in targets.values() if other is not target]
                if elsewhere:
                    looked_at["photos of the others"] = np.concatenate(elsewhere)
                shares.append({kind: np.mean(likeness.excess(found) > 0) for kind, found in looked_at.items()})
            means = {kind: float(np.mean([share[kind] for share in shares])) for kind in shares[0]}
            rows.append({"labels of": name, "labels": shots, **means})
    return rows


def sweep_rows(folder: str) -> list[dict[str, object]]:
    """Coverage of the test images of every trial, by lambda and number of labels."""
    sweep = SweepFolder(locate(folder)).read()
    found: dict[tuple[int, float], list[tuple[float, float]]] = {}
    without = 0
    for trial in sweep.finished.to_dict("records"):
        place = sweep.folder.trial(trial["trial"])
        predicted = place.read_predictions()
        bundle = read_bundle(place.bundle) if (place.bundle / DESCRIPTION).exists() else None
        if predicted is None or bundle is None or bundle.evidence is None or bundle.score_range is None:
            without += 1
            continue
        margin = margin_of(bundle.evidence.predicted_N, bundle.evidence.quality_N, COVERAGE)
        truth = np.asarray(bundle.score_range.to_quality(predicted["mos"].to_numpy(float)))
        values = cover(*interval_of(predicted["quality"].to_numpy(float), margin), truth)
        found.setdefault((trial["budget"], trial["lambda"]), []).append(values)
    if without:
        print(f"{without} trials keep no held-out predictions and are left out")
    rows: list[dict[str, object]] = []
    for (budget, strength), values in sorted(found.items()):
        covered, width = np.mean(values, axis=0)
        rows.append({"labels": budget, "lambda": strength, "trials": len(values), "coverage": covered, "width": width})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--photos", nargs="+", default=[], metavar="NAME=DIR[:MAX]", help="folders of train_backbone prepare"
    )
    parser.add_argument(
        "--material", type=Path, metavar="DIR", help="of training: held-out photos, to choose settings on"
    )
    parser.add_argument("--pictures", nargs="+", default=[], metavar="NAME=DIR", help="images that are no photos")
    parser.add_argument("--sweep", metavar="DIR", help="a sweep's folder, whose adapted models are measured instead")
    parser.add_argument("--draws", type=int, default=100, help="of labels (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/coverage"), metavar="DIR")
    options = parser.parse_args()
    if options.sweep:
        print(table(sweep_rows(options.sweep)))
        return
    torch.set_num_threads(1)
    backbone = load_backbone(BackboneConfig())
    backbone.clip.bfloat16()
    targets = {}
    for entry in options.photos:
        name, folder, most = re.fullmatch(r"([^=]+)=(.+?)(?::([0-9.]+))?", entry).groups()
        found = measured_target(backbone, name, folder, options.cache)
        targets[name] = dataclasses.replace(found, quality_N=found.quality_N / float(most or 1))
    if options.material:
        targets |= {f"held out, {c}": measured_held_out(backbone, options.material, c, options.cache) for c in CHANGES}
    print(table(coverage_rows(targets, options.draws)))
    seeds = range(FIRST_SEED, FIRST_SEED + PICTURES)
    pictures = {kind: photo_statistics(backbone, map(make, seeds)) for kind, make in KINDS.items()}
    for name, folder in (entry.split("=", 1) for entry in options.pictures):
        paths = list_images(folder).paths
        pictures[f"{name} ({len(paths)})"] = photo_statistics(backbone, map(decode_image, paths))
    domain = domain_of(EMBEDDED, backbone.weights_sha256)
    print(table(unlike_rows(targets, pictures, domain, min(options.draws, 20))))


if __name__ == "__main__":
    main()
