"""Choosing images by the planner against random choice, and the stop rule against the gain that came.

    python -m tests.benchmarks.bench_planner choose --material DIR --cache DIR
    python -m tests.benchmarks.bench_planner stop --material DIR --cache DIR
    python -m tests.benchmarks.bench_planner report --store DIR --cache DIR

`choose` compares all rules on the held-out photos of ss03 of BIQ2021, as they are, shrunk and as JPEG; the best mean
SRCC over 10 to 100 labels makes the default rule. `stop` shows the stop rule on the same photos. `report` compares the
default with random choice on a target, and chooses nothing. DIR are folders of `grmp train_backbone prepare`; the
backbone is the embedded one, and what it makes of the photos is kept in --cache, by its weights.

A draw halves the photos into a pool and test photos, neighbours on one side. Ten images are added at a time; the
learner is the residual ridge on frozen features. The SRCC is that on the test photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grmp_core.evaluation.metrics import srcc
from grmp_core.evaluation.ridge import residual_ridge
from grmp_core.model.backbone import BackboneConfig, load_backbone
from grmp_core.nano.material import RATED, read_material
from grmp_core.nano.photo_store import PhotoStore
from grmp_core.planning.feature_pool import FeaturePool
from grmp_core.planning.label_gain import expected_gain
from grmp_core.planning.selection import Labelled, select_next
from grmp_core.planning.settings import DEFAULT_RULE, ENOUGH_GAIN, RULES, Rule
from pipelines.backbone_training.measurements import look_at
from pipelines.backbone_training.target_tables import CHANGES

STEP, MOST, MOST_RANDOM = 10, 100, 200
POOL_SHARE = 0.6
SUBSET = "ss03"


@dataclass(frozen=True)
class Photos:
    name: str
    features_ND: np.ndarray
    base_N: np.ndarray
    mos_N: np.ndarray
    groups_N: np.ndarray

    def halves(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the pool and of the test photos; no group is in both."""
        groups = np.random.default_rng(seed).permutation(np.unique(self.groups_N))
        sizes = np.array([np.sum(self.groups_N == group) for group in groups])
        taken = groups[: 1 + int(np.searchsorted(sizes.cumsum(), POOL_SHARE * len(self.mos_N)))]
        in_pool_N = np.isin(self.groups_N, taken)
        return np.flatnonzero(in_pool_N), np.flatnonzero(~in_pool_N)


def photos_of(store: PhotoStore, rows: np.ndarray, groups_N: np.ndarray, name: str, change: str, cache: Path) -> Photos:
    backbone = load_backbone(BackboneConfig())
    file = cache / f"{name}-{change}-{backbone.weights_sha256[:12]}.npz"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        backbone.clip.bfloat16()
        found = look_at(backbone, (CHANGES[change](store.pixels(int(n))) for n in rows))
        np.savez(file, features=found.pooled_ND.astype(np.float16), base=found.quality_N)
    kept = np.load(file)
    mos = np.array([store.rows[int(n)].score for n in rows], dtype=float)
    return Photos(f"{name} {change}", kept["features"].astype(float), kept["base"].astype(float), mos, groups_N)


def learned(photos: Photos, labelled: np.ndarray, test: np.ndarray) -> float:
    """Test SRCC of the residual ridge on the rows `labelled`."""
    features, base, mos = photos.features_ND, photos.base_N, photos.mos_N
    predicted = residual_ridge(features[labelled], base[labelled], mos[labelled], features[test], base[test])
    return srcc(predicted, mos[test])


def order_by(photos: Photos, pool: np.ndarray, rule: Rule, seed: int, most: int) -> np.ndarray:
    """Rows of the photos in the order in which the rule labels them."""
    planner = FeaturePool.of(photos.features_ND[pool].astype(np.float16), photos.base_N[pool])
    chosen = np.array([], dtype=int)
    while len(chosen) < most:
        labelled = Labelled(chosen, photos.mos_N[pool[chosen]])
        chosen = np.concatenate([chosen, select_next(planner, labelled, STEP, rule=rule, seed=seed)])
    return pool[chosen]


def curves(photos: Photos, rule: Rule, draws: int, most: int) -> np.ndarray:
    """(draws, most / STEP) test SRCC."""
    values = []
    for seed in range(draws):
        pool, test = photos.halves(seed)
        order = order_by(photos, pool, rule, seed, most)
        values.append([learned(photos, order[:count], test) for count in range(STEP, most + 1, STEP)])
    return np.array(values)


def labels_for(target: float, medians: np.ndarray) -> str:
    """Random labels that reach `target`, by linear interpolation of the highest median so far."""
    counts, best = np.arange(1, len(medians) + 1) * STEP, np.maximum.accumulate(medians)
    if target > best[-1]:
        return f"> {counts[-1]}"
    return f"{np.interp(target, best, counts):.0f}" if target > best[0] else f"<= {STEP}"


def held_out_photos(material_folder: Path, cache: Path) -> Iterator[Photos]:
    material = read_material(material_folder)
    rows = np.array([n for n in material.validation(RATED) if material.store.rows[n].name.startswith(SUBSET)])
    for change in CHANGES:
        yield photos_of(material.store, rows, material.groups_N[rows], SUBSET, change, cache)


def choose(material_folder: Path, cache: Path, draws: int) -> None:
    means: dict[str, list[float]] = {rule: [] for rule in RULES}
    for photos in held_out_photos(material_folder, cache):
        print(f"\n{photos.name}: {len(photos.mos_N)} photos, {srcc(photos.base_N, photos.mos_N):.4f} without a label")
        for rule in RULES:
            values = curves(photos, rule, draws, MOST)
            means[rule].append(float(values.mean()))
            print(f"{rule:<14}", *(f"{v:.4f}" for v in np.median(values, axis=0)), f" mean {values.mean():.4f}")
    print("\nmean over the three, 10 to 100 labels")
    for rule in sorted(RULES, key=lambda rule: -sum(means[rule])):
        print(f"{rule:<14} {np.mean(means[rule]):.4f}")


def report(store_folder: Path, cache: Path, draws: int) -> None:
    store = PhotoStore(store_folder)
    rows = np.array([n for n, row in enumerate(store.rows) if row.score is not None])
    photos = photos_of(store, rows, rows, store_folder.name, "none", cache)
    random = curves(photos, "random", draws, MOST_RANDOM)
    planned = curves(photos, DEFAULT_RULE, draws, MOST)
    print(f"{photos.name}: {len(rows)} photos, {srcc(photos.base_N, photos.mos_N):.4f} without a label, {draws} draws")
    print(f"| labels | random | {DEFAULT_RULE} | random labels for the same | better in draws |\n|---|---|---|---|---|")
    medians = np.median(random, axis=0)
    for i, values in enumerate(planned.T):
        quartiles = [
            "{:.3f} ({:.3f} to {:.3f})".format(*np.percentile(of, (50, 25, 75))) for of in (random[:, i], values)
        ]
        saved = labels_for(float(np.median(values)), medians)
        print(f"| {(i + 1) * STEP} | {' | '.join(quartiles)} | {saved} | {np.mean(values > random[:, i]):.0%} |")
    print("random, up to", MOST_RANDOM, *(f"{value:.3f}" for value in medians))
    stop_rule(photos, draws)


def stop_rule(photos: Photos, draws: int) -> None:
    """Print the expected gain of ten labels more beside the mean gain over all draws, for random and planned labels."""
    print(f"\n{photos.name}: gain of ten labels more")
    for rule in ("random", DEFAULT_RULE):
        orders = []
        for seed in range(draws):
            pool, test = photos.halves(seed)
            orders.append((order_by(photos, pool, rule, seed, MOST + STEP), test))
        for count in (20, 30, 50, 70, 100):
            came = [learned(photos, o[: count + STEP], t) - learned(photos, o[:count], t) for o, t in orders]
            found = [
                expected_gain(
                    FeaturePool.of(photos.features_ND, photos.base_N).gram(o[:count]),
                    photos.base_N[o[:count]],
                    photos.mos_N[o[:count]],
                    seed=seed,
                )
                for seed, (o, _) in enumerate(orders)
            ]
            holds = np.mean([gain.low <= np.mean(came) <= gain.high for gain in found])
            print(
                f"{rule:<9} {count:>4} labels: came {np.mean(came):+.4f}, expected "
                f"{np.mean([g.gain for g in found]):+.4f} ({np.mean([g.low for g in found]):+.4f} to "
                f"{np.mean([g.high for g in found]):+.4f}), holds in {holds:.0%}, "
                f"enough (below {ENOUGH_GAIN}) in {np.mean([g.high < ENOUGH_GAIN for g in found]):.0%}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("choose", "stop", "report"))
    parser.add_argument("--material", type=Path, metavar="DIR", help="of training, for choose and stop")
    parser.add_argument("--store", type=Path, metavar="DIR", help="of a target, for report")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR")
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.store if options.action == "report" else options.material
    if folder is None:
        parser.error("choose and stop take --material, report takes --store")
    if options.action == "stop":
        for photos in held_out_photos(folder, options.cache):
            stop_rule(photos, options.draws)
    else:
        (choose if options.action == "choose" else report)(folder, options.cache, options.draws)


if __name__ == "__main__":
    main()
