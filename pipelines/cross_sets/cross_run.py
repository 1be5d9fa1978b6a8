"""`grmp cross`: a matrix of labelled sets, models from a row's labels on a column's test images.

Of every split and sweep the trial is taken that validation chose. All models of a column are tested on the same test
images, those of its own sweep, and nothing is trained.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pandas as pd
import ray

from grmp_core.errors import InputError
from pipelines.configuration.schema import Config
from pipelines.cross_sets.cross_test import CrossTest, test_models
from pipelines.cross_sets.trained_sets import TrainedSet, common_shots, read_trained_sets
from pipelines.few_shot.encoded_target import EncodedTarget, encode_target
from pipelines.few_shot.labelled_target import bad_rows
from pipelines.few_shot.starting_model import initial_prompts
from pipelines.runtime.capacity import require_trial
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.runtime.ray_session import ray_session

COLUMNS = ("trained_on", "tested_on", "split_seed", "srcc", "plcc", "images", "left_out")
"""Of the results, one row a pair of sets and split. `left_out`: test images that the model has learned from, or nearly
the same ones."""


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Result of `grmp cross`."""

    names: tuple[str, ...]
    shots: int
    results: pd.DataFrame
    """`COLUMNS`"""
    folder: str

    @property
    def without_images(self) -> int:
        """Pairs of sets and split of which no test image is left."""
        return int((self.results["images"] == 0).sum())

    def as_json(self) -> dict[str, Any]:
        medians = {name: self._medians(metric).to_dict("index") for name, metric in _SHOWN}
        left_out = int(self.results["left_out"].sum())
        counts = {"left_out": left_out, "without_images": self.without_images}
        return {"sets": list(self.names), "shots": self.shots, "medians": medians, **counts}

    def as_text(self) -> str:
        splits = self.results["split_seed"].nunique()
        parts = []
        for name, metric in _SHOWN:
            medians = self._medians(metric)
            rows = [{f"{name}, trained on": row, **{f"on {c}": medians[c][row] for c in medians}} for row in self.names]
            parts.append(table(rows))
        note = f"medians over {splits} splits, {self.shots} labels; of a column all models have the same test images"
        if count := int(self.results["left_out"].sum()):
            note += f"; {count} predictions for images that a model has learned from, or nearly so, are left out"
        if self.without_images:
            note += f"; {self.without_images} tests of one split have no image left, and count in no median"
        return "\n".join([*parts, note, self.folder])

    def _medians(self, metric: str) -> pd.DataFrame:
        pivot = self.results.pivot_table(index="trained_on", columns="tested_on", values=metric, aggfunc="median")
        return pivot.reindex(index=list(self.names), columns=list(self.names))


_SHOWN = (("SRCC", "srcc"), ("PLCC", "plcc"))


def run_cross(config: Config, *, here: bool = False) -> Cross:
    """Test the models of `cross.sweeps` on one another's test images, and write `<output>/cross`.

    Args:
        here: in this process, without Ray.

    InputError for fewer than two sweeps, and for those that share no split or number of labels.
    """
    started = time.time()
    sets = read_trained_sets(config.cross.sweeps)
    shots = common_shots(sets) if config.cross.shots is None else config.cross.shots
    seeds = _common_seeds(sets, shots)
    rows = [row for one in sets for row in one.own_rows(shots, seeds)]
    pairs = [(a, b) for a in sets for b in sets if a is not b]
    with nullcontext() if here else ray_session():
        if not here:
            for one in sets:
                require_trial(one.config, "testing a model wants")
        tests = [test for a in sets for test in _tests_of(a, [b for b in sets if b is not a], shots, seeds, here)]
        found = [test_models(test) for test in tests] if here else ray.get([_on_ray(test) for test in tests])
    for (a, b), measured in zip(pairs, found, strict=True):
        rows += [{"trained_on": a.name, "tested_on": b.name, **one} for one in measured]
    results = pd.DataFrame(rows, columns=list(COLUMNS))
    folder = output_folder(config, "cross")
    cross = Cross(names=tuple(one.name for one in sets), shots=shots, results=results, folder=folder.uri)
    (folder / "cross.csv").write_bytes(results.to_csv(index=False).encode())
    (folder / "cross.md").write_bytes(cross.as_text().encode())
    inputs = {one.name: one.labelled.fingerprint() for one in sets}
    counts = {"splits": len(seeds), "left_out": int(results["left_out"].sum())}
    rejected = [reject for one in sets for reject in bad_rows(one.labelled)]
    rejected += {reject["path"]: reject for test in tests for reject in test.encoded.unreadable}.values()
    write_manifest(folder, "cross", config, started, inputs=inputs, counts=counts, rejected=rejected)
    return cross


def _common_seeds(sets: Sequence[TrainedSet], shots: int) -> list[int]:
    seeds = set.intersection(*(one.seeds(shots) for one in sets))
    if not seeds:
        names = ", ".join(f"{one.name}: {sorted(one.shots)}" for one in sets)
        raise InputError(
            f"cross: the sweeps share no split with {shots} labels ({names}); give them the same "
            "sweep.split_seeds and sweep.shots, or choose cross.shots"
        )
    return sorted(seeds)


def _tests_of(
    a: TrainedSet, others: Sequence[TrainedSet], shots: int, seeds: Sequence[int], here: bool
) -> list[CrossTest]:
    """The models of `a` on the test images of each other set, all encoded as these models want them."""
    for b in others:  # refuses prompts that know the scores of one, before anything is encoded
        start = initial_prompts(dataclasses.replace(a.config, target=b.config.target))

    def encoded(one: TrainedSet) -> EncodedTarget:
        config, gpus = dataclasses.replace(a.config, target=one.config.target), a.config.sweep.gpus_per_trial
        return encode_target(config, one.labelled, start, one.protocol, gpus, here=here)

    own = encoded(a)
    known = dict(zip(own.image_ids, own.perceptual_hashes, strict=True))
    bundles = {seed: a.bundle(shots, seed) for seed in seeds}
    tests = []
    for b in others:
        say(f"cross: models of {a.name} on {b.name}")
        tests.append(
            CrossTest(
                config=a.config,
                start=start,
                score_range=b.labelled.score_range,
                encoded=encoded(b),
                bundles=bundles,
                known_hashes=known,
            )
        )
    return tests


def _on_ray(test: CrossTest) -> Any:
    sweep = test.config.sweep
    return ray.remote(num_cpus=sweep.cpus_per_trial, num_gpus=sweep.gpus_per_trial)(test_models).remote(test)
