"""Labelled sets with the sweeps that learned from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import plcc, srcc
from grmp_core.evaluation.protocol import Protocol
from pipelines.configuration.loading import config_of
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.results.statistics import best_by_validation
from pipelines.results.sweep_folder import SweepFolder, TrialFolder


@dataclass(frozen=True, kw_only=True)
class TrainedSet:
    """One labelled set, and the trials of its sweep that validation chose."""

    name: str
    config: Config
    """Of the sweep, with the output as it was given."""
    labelled: LabelledSet
    protocol: Protocol
    trials: pd.DataFrame
    """One row a budget and split seed."""

    @property
    def shots(self) -> set[int]:
        return set(self.trials["budget"])

    def seeds(self, shots: int) -> set[int]:
        return set(self.trials.loc[self.trials["budget"] == shots, "split_seed"])

    def bundle(self, shots: int, seed: int) -> str:
        return self._trial(shots, seed).bundle.uri

    def own_rows(self, shots: int, seeds: Iterable[int]) -> list[dict[str, Any]]:
        """The sweep's own test results: `cross_run.COLUMNS`."""
        rows = []
        for seed in seeds:
            tested = self._trial(shots, seed).read_predictions()
            if tested is None:
                raise InputError(f"the sweep of {self.name} lacks its predictions of split {seed}; run it again")
            agreement = {
                name: of(tested["mos_scale_score"], tested["mos"]) for name, of in (("srcc", srcc), ("plcc", plcc))
            }
            about = {"trained_on": self.name, "tested_on": self.name, "split_seed": seed}
            rows.append({**about, **agreement, "images": len(tested), "left_out": 0})
        return rows

    def _trial(self, shots: int, seed: int) -> TrialFolder:
        """Where it is now: an output may have moved."""
        name = self.trials.set_index(["budget", "split_seed"]).at[(shots, seed), "trial"]
        return SweepFolder.of(self.config.output).trial(str(name))


def read_trained_sets(outputs: Sequence[str]) -> list[TrainedSet]:
    """The sets of these outputs of `grmp sweep`. InputError for fewer than two different ones, and for a sweep that has
    not ended."""
    if not outputs:
        raise InputError("no sweeps to cross: name the outputs of two or more (grmp cross A B)")
    if len(set(outputs)) < max(2, len(outputs)):
        raise InputError(
            f"cross.sweeps names {len(set(outputs))} different sweeps in {len(outputs)} places: give two outputs or "
            "more, each once (grmp cross A B)"
        )
    return [_read(output, name) for output, name in zip(outputs, short_names(outputs), strict=True)]


def _read(output: str, name: str) -> TrainedSet:
    results = SweepFolder.of(output).read()
    if not results.manifest:
        raise InputError(f"the sweep at {results.folder.uri} has not ended; run it to its end first")
    config = dataclasses.replace(config_of(results.manifest["config"]), output=output)
    labelled = load_target(config.target)
    trials = best_by_validation(results.finished)
    return TrainedSet(
        name=name, config=config, labelled=labelled, protocol=target_protocol(config, labelled), trials=trials
    )


def common_shots(sets: Sequence[TrainedSet]) -> int:
    """The largest number of labels that all sweeps have. InputError where there is none."""
    common = set.intersection(*(one.shots for one in sets))
    if not common:
        has = "; ".join(f"{one.name}: {', '.join(map(str, sorted(one.shots)))}" for one in sets)
        raise InputError(f"the sweeps have no number of labels in common ({has}); give them the same sweep.shots")
    return max(common)


def short_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path that tells all of them apart, such as livec of runs/livec; else whole paths."""
    parts = [path.rstrip("/").split("/") for path in paths]
    for i in range(1, min(map(len, parts)) + 1):
        names = [part[-i] for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)
