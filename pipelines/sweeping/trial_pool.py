"""Run trials with Ray Tune: the target is encoded once for all, and as many run at a time as measured memory allows."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from grmp_core.datasets.labelled_set import LabelledSet, relative
from grmp_core.errors import InputError
from grmp_core.model.bundle import Bundle
from grmp_core.storage import Location
from pipelines.configuration.loading import as_dict
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import encode_target
from pipelines.runtime.capacity import how_many_fit
from pipelines.runtime.console import one_line, say
from pipelines.sweeping.trial import Shared, measure_trial

Cell = dict[str, Any]
UNREADABLE = "unreadable.json"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Trials that Tune runs together; `trainable(params, **constants)` with `params` from `space`."""

    trainable: Callable[..., None]
    space: dict[str, Any]
    constants: dict[str, Any]
    total: int
    name_of: Callable[[dict[str, Any]], str]
    """Parameters of a trial -> its name in the log."""
    largest: Cell
    """The one that needs the most memory."""
    on_end: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
    """Called in the driver with the parameters and the last report of a trial that ended or was stopped."""
    tune_options: dict[str, Any] = field(default_factory=dict)
    """Further settings of tune.TuneConfig, such as a scheduler."""


class Runner:
    """Everything that the trials of one sweep share, made on first use: a sweep with nothing left to do makes nothing.

    `identity` names the inputs and settings.
    """

    def __init__(self, config: Config, start: Bundle, target: LabelledSet, place: Location, identity: str) -> None:
        self.config, self.start, self.target = config, start, target
        self.place, self.identity = place, identity
        self._measured: dict[int, tuple[int, float] | None] = {}

    @cached_property
    def shared(self) -> Shared:
        """What cannot be read is kept in `unreadable.json`, for runs that do not read the images again."""
        encoded = encode_target(self.config, self.target, self.start, self.config.sweep.gpus_per_trial)
        root = self.target.root
        self._keep_unreadable([{**reject, "path": relative(reject["path"], root)} for reject in encoded.unreadable])
        return Shared(
            as_dict(self.config),
            self.start,
            ray.put(encoded),
            self.target.score_range,
            self.place.uri,
            self.identity,
        )

    @property
    def reference_ids(self) -> list[str]:
        """Of the images that can be read."""
        unreadable = {reject["path"] for reject in self.unreadable}
        both = zip(self.target.image_paths, self.target.reference_ids, strict=True)
        return [reference for path, reference in both if relative(path, self.target.root) not in unreadable]

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """Path, as seen from the target's root, and reason of images, as of the run that read them; they are read
        where none has."""
        file = self.place / UNREADABLE
        if not (file.exists() and file.read_json()["identity"] == self.identity):
            _ = self.shared
        return file.read_json()["unreadable"]

    def _keep_unreadable(self, found: list[dict[str, str]]) -> None:
        """InputError where the run that planned the trials could read other images: the splits would be others."""
        file = self.place / UNREADABLE
        known = file.read_json() if file.exists() else {}
        if known.get("identity") == self.identity:
            before, now = ({reject["path"] for reject in rejects} for rejects in (known["unreadable"], found))
            if changed := sorted(before ^ now):
                how = "could not be read" if changed[0] in before else "could be read"
                raise InputError(
                    f"{changed[0]} {how} when this sweep began, and now it is the other way round ({len(changed)} such "
                    "images): the splits would be others; restore that, or sweep into another output"
                )
        file.write_json({"identity": self.identity, "unreadable": found})

    def shared_as(self, config: Config, identity: str) -> Shared:
        """For trials whose numbers depend on other settings, too."""
        return dataclasses.replace(self.shared, config=as_dict(config), identity=identity)

    def run(self, batch: Batch) -> list[tuple[dict[str, Any], str]]:
        """-> parameters and error of the trials that kept failing.

        Tune's own files stay only where something failed: they hold the full error. What a sweep goes on from is what
        its trials wrote.
        """
        wanted = self.config.sweep
        name = f"tune-{self.identity}-{time.time_ns()}"
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(batch.trainable, **batch.constants),
                tune.PlacementGroupFactory([self._request(batch)]),
            ),
            param_space=batch.space,
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                metric="val_srcc",
                mode="max",
                trial_dirname_creator=lambda trial: trial.trial_id,
                **batch.tune_options,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=self.place.uri,
                failure_config=tune.FailureConfig(max_failures=wanted.max_failures),
                verbose=0,
                callbacks=[_Progress(batch)],
            ),
        )
        grid = tuner.fit()
        results = [grid[i] for i in range(len(grid))]
        failed = [(r.config, one_line(r.error)) for r in results if r.error is not None and r.config]
        if not failed:
            (self.place / name).delete_folder()
        return failed

    def _request(self, batch: Batch) -> dict[str, float]:
        """Resources of a trial for Ray to pack by; its memory only where several could run at a time."""
        request = {"CPU": self.config.sweep.cpus_per_trial, "GPU": self.config.sweep.gpus_per_trial}
        at_once = how_many_fit(request)
        needs = self._needs(batch.largest) if min(at_once, batch.total) > 1 else None
        if needs is None:
            return request
        memory_bytes, gpu_share = needs
        request["memory"] = memory_bytes
        if request["GPU"] < 1:
            request["GPU"] = min(max(request["GPU"], math.ceil(100 * gpu_share) / 100), 1.0)
        packed = how_many_fit(request)
        if packed == 0:
            raise InputError(
                f"a trial needs {memory_bytes / 1e9:.1f} GB of memory, more than Ray has on any node: lower "
                "sweep.shots, views.train_views or views.score_grid, or give Ray more memory"
            )
        on_gpu = f" and {gpu_share:.0%} of a GPU" if gpu_share else ""
        say(
            f"sweep: a trial needs {memory_bytes / 1e9:.1f} GB{on_gpu} as measured: {packed} at a time "
            f"(by sweep.cpus_per_trial and sweep.gpus_per_trial {at_once})"
        )
        return request

    def _needs(self, cell: Cell) -> tuple[int, float] | None:
        """What `measure_trial` says, once for a number of shots."""
        if cell["shots"] not in self._measured:
            self._measured[cell["shots"]] = self._measure(cell)
        return self._measured[cell["shots"]]

    def _measure(self, cell: Cell) -> tuple[int, float] | None:
        wanted = self.config.sweep
        task = ray.remote(num_cpus=wanted.cpus_per_trial, num_gpus=wanted.gpus_per_trial, max_retries=0)(measure_trial)
        try:
            return ray.get(task.remote(self.shared, cell))
        except RayError as error:  # the trials will say it, too, each with its name
            say(f"sweep: the memory of a trial could not be measured ({one_line(error)}); it limits nothing")
            return None


class _Progress(tune.Callback):
    """One line a finished trial, for job logs."""

    def __init__(self, batch: Batch) -> None:
        self.batch, self.done = batch, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done += 1
        result = trial.last_result
        how = "" if result.get("ended", True) else f", stopped after epoch {result['epoch']}"
        say(
            f"sweep: {self.done}/{self.batch.total} {self.batch.name_of(trial.config)}: validation SRCC "
            f"{result['val_srcc']:.3f}, {result['epochs']} epochs, {result['seconds']:.0f} s{how}"
        )
        if self.batch.on_end is not None:
            self.batch.on_end(trial.config, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        say(f"sweep: {self.batch.name_of(trial.config)} failed")
