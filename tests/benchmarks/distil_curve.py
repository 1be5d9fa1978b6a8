"""Speed and SRCC of a teacher and its students: one table for a target, on one thread.

`python -m tests.benchmarks.distil_curve --teacher BUNDLE --student BUNDLE … --livec FOLDER --table labels.csv`
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
import torch

from grmp_core.datasets import load
from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.distilling.student import bundle_size
from grmp_core.evaluation.metrics import srcc
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle, read_bundle
from grmp_core.model.scorer import Scorer
from grmp_core.storage import locate
from pipelines.runtime.console import table


def speeds(bundles: dict[str, Bundle], paths: list[str], precision: str) -> dict[str, float]:
    """Images a second of processor time, decoding included; the models take turns image by image."""
    scorers = {name: scorer_of(bundle, name, precision) for name, bundle in bundles.items()}
    seconds = dict.fromkeys(bundles, 0.0)
    for scorer in scorers.values():
        scorer.score(paths[:1])  # the first pass makes the kernels
    for path in paths:
        for name, scorer in scorers.items():
            begun = time.process_time()
            scorer.score([path])
            seconds[name] += time.process_time() - begun
    return {name: len(paths) / spent for name, spent in seconds.items()}


def scorer_of(bundle: Bundle, name: str, precision: str) -> Scorer:
    return Scorer(dataclasses.replace(bundle, precision=precision, evidence=None), name)


def correlation(bundle: Bundle, name: str, target: LabelledSet, precision: str) -> float:
    scores = scorer_of(bundle, name, precision).score(list(target.image_paths))
    quality = np.array([score.quality for score in scores])
    return float(srcc(quality, target.quality))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", nargs="+", required=True)
    parser.add_argument("--livec", help="folder of LIVE In the Wild")
    parser.add_argument("--table", nargs="*", default=[], help="CSV tables with image and mos from 0 to 1")
    parser.add_argument("--timed", type=int, default=60, help="images for the speed")
    parser.add_argument("--precision", default="bf16", help="of the scores; speeds are of both")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundles = {folder: read_bundle(locate(folder)) for folder in (options.teacher, *options.student)}
    targets = [load("livec", options.livec, max_reject_fraction=1.0)] if options.livec else []
    targets += [load("table", path, score_min=0, score_max=1) for path in options.table]
    paths = list(targets[0].image_paths[: options.timed])
    rows = [
        {"model": name, "parameters": bundle_size(bundle, load_backbone(bundle.backbone))}
        for name, bundle in bundles.items()
    ]
    for precision in ("fp32", "bf16"):
        measured = speeds(bundles, paths, precision)
        for row in rows:
            speed = measured[str(row["model"])]
            row[f"{precision} images/s"] = f"{speed:.1f} (x{speed / measured[options.teacher]:.2f})"
    print(table(rows), flush=True)
    for target in targets:
        teachers = 0.0
        for row, (name, bundle) in zip(rows, bundles.items(), strict=True):
            found = correlation(bundle, name, target, options.precision)
            teachers = teachers or found
            row[f"SRCC {target.root.rsplit('/', 1)[-1]}"] = f"{found:.4f} ({found / teachers:.3f})"
            print(name, target.root, f"{found:.4f} {found / teachers:.4f}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
