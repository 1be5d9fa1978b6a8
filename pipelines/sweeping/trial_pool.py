"""Run trials with Ray Tune: the target is encoded once for all, and as many run at a time as measured memory allows."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from grmp_core.datasets.labelled_set import LabelledSet, relative
from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.identity import Identity
from grmp_core.model.bundle import Bundle
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import Start, encode_target
from pipelines.results.sweep_folder import Rejects, SweepFolder
from pipelines.results.trial import Trial
from pipelines.runtime.capacity import how_many_fit
from pipelines.runtime.console import one_line, say
from pipelines.runtime.progress import Progress
from pipelines.sweeping.trial_worker import Shared, measure_trial

_NO_HANDLER_OF_SIGINT = ("TUNE_DISABLE_SIGINT_HANDLER", "1")
"""With a handler of Tune's own, a run that Ctrl-C interrupts looks like a finished one."""


@dataclass(frozen=True, kw_only=True)
class TrialGroup:
    """Trials that Tune runs together; `trainable(params, **constants)` with `params` from `space`."""

    trainable: Callable[..., None]
    space: dict[str, Any]
    constants: dict[str, Any]
    total: int
    name_of: Callable[[dict[str, Any]], str]
    """Parameters of a trial -> its name in the log."""
    largest: Trial
    """The one that needs the most memory."""
    on_end: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
    """Called in the driver with the parameters and the last report of a trial that ended or was stopped."""
    tune_options: dict[str, Any] = field(default_factory=dict)
    """Further settings of tune.TuneConfig, such as a scheduler."""


class Runner:
    """Everything that the trials of one sweep share, made on first use: a sweep with nothing left to do makes nothing.

    `identity` names the inputs and settings.
    """

    def __init__(
        self,
        config: Config,
        start: Bundle,
        target: LabelledSet,
        protocol: Protocol,
        folder: SweepFolder,
        identity: Identity,
        also: Sequence[Start] = (),
    ) -> None:
        """also: starts of later sweeps of the same target, for `encode_target`."""
        self.also = also
        self.config, self.start, self.target, self._protocol = config, start, target, protocol
        self.folder, self.identity = folder, identity
        self._measured: dict[int, tuple[int, float] | None] = {}

    @cached_property
    def shared(self) -> Shared:
        """Images that cannot be read are kept in the sweep's folder, for runs that do not read the images again."""
        gpus = self.config.sweep.gpus_per_trial
        encoded = encode_target(self.config, self.target, self.start, self._protocol, gpus, self.also)
        root = self.target.root
        self._entry = encoded.entry  # held, so that no other run deletes it between two trials
        self._keep_unreadable([{**reject, "path": relative(reject["path"], root)} for reject in encoded.unreadable])
        return Shared(
            self.config,
            self.start,
            ray.put(encoded),
            self.target.score_range,
            self.folder.uri,
            self.identity,
        )

    @property
    def protocol(self) -> Protocol:
        """Of the images that can be read."""
        unreadable = {reject["path"] for reject in self.unreadable}
        paths = enumerate(self.target.image_paths)
        return self._protocol.take([row for row, path in paths if relative(path, self.target.root) not in unreadable])

    @property
    def unreadable(self) -> Rejects:
        """Path, as seen from the target's root, and reason of images, as of the run that read them; they are read
        where none has."""
        kept = self.folder.unreadable(self.identity)
        if kept is None:
            _ = self.shared
            kept = self.folder.unreadable(self.identity)
        return kept or []

    def _keep_unreadable(self, rejects: Rejects) -> None:
        """InputError where the run that planned the trials could read other images: the splits would be others."""
        before = self.folder.unreadable(self.identity)
        if before is not None:
            then, now = ({reject["path"] for reject in one} for one in (before, rejects))
            if changed := sorted(then ^ now):
                how = "could not be read" if changed[0] in then else "could be read"
                raise InputError(
                    f"{changed[0]} {how} when this sweep began, and now it is the other way round ({len(changed)} such "
                    "images): the splits would be others; restore that, or sweep into another output"
                )
        self.folder.write_unreadable(self.identity, rejects)

    def shared_as(self, config: Config, identity: Identity) -> Shared:
        """For trials whose numbers depend on other settings, too."""
        return dataclasses.replace(self.shared, config=config, identity=identity)

    def run(self, group: TrialGroup) -> list[tuple[dict[str, Any], str]]:
        """-> parameters and error of the trials that kept failing.

        Tune's own files stay only where something failed: they hold the full error. A sweep goes on from what its
        trials wrote.

        RuntimeError where Tune ended before its trials did, such as on a signal.
        """
        os.environ.setdefault(*_NO_HANDLER_OF_SIGINT)
        progress = _Progress(group)
        tune_folder = self.folder.new_tune_folder()
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(group.trainable, **group.constants),
                tune.PlacementGroupFactory([self._request(group)]),
            ),
            param_space=group.space,
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                metric="val_srcc",
                mode="max",
                trial_dirname_creator=lambda trial: trial.trial_id,
                **group.tune_options,
            ),
            run_config=tune.RunConfig(
                name=tune_folder.name,
                storage_path=self.folder.uri,
                failure_config=tune.FailureConfig(max_failures=self.config.sweep.max_failures),
                verbose=0,
                callbacks=[progress],
            ),
        )
        grid = tuner.fit()
        left = group.total - progress.done - progress.failed
        if left > 0:  # Tune counts trials that it cut off as ended
            raise RuntimeError(
                f"Ray Tune was stopped before {left} of {group.total} trials ended; run the same command again, "
                "which keeps the finished ones"
            )
        results = [grid[i] for i in range(len(grid))]
        failed = [(r.config, one_line(r.error)) for r in results if r.error is not None and r.config]
        if not failed:
            tune_folder.delete_folder()
        return failed

    def _request(self, group: TrialGroup) -> dict[str, float]:
        """Resources of a trial for Ray to pack by; its memory only where several could run at a time."""
        request = {"CPU": self.config.sweep.cpus_per_trial, "GPU": self.config.sweep.gpus_per_trial}
        at_once = how_many_fit(request)
        needs = self._needs(group.largest) if min(at_once, group.total) > 1 else None
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

    def _needs(self, trial: Trial) -> tuple[int, float] | None:
        """`measure_trial`, once for a number of shots; null where that fails."""
        if trial.shots not in self._measured:
            self._measured[trial.shots] = self._measure(trial)
        return self._measured[trial.shots]

    def _measure(self, trial: Trial) -> tuple[int, float] | None:
        sweep = self.config.sweep
        task = ray.remote(num_cpus=sweep.cpus_per_trial, num_gpus=sweep.gpus_per_trial, max_retries=0)(measure_trial)
        try:
            return ray.get(task.remote(self.shared, trial))
        except RayError as error:  # the trials will say it, too, each with its name
            say(f"sweep: the memory of a trial could not be measured ({one_line(error)}); it limits nothing")
            return None


class _Progress(tune.Callback):
    """Progress of a sweep, one line or one step of the bar a finished trial."""

    def __init__(self, group: TrialGroup) -> None:
        self.group, self.done, self.failed = group, 0, 0

    def setup(self, *settings: Any, **info: Any) -> None:
        self.progress = Progress("sweep", self.group.total, "trial")  # not before: Tune pickles its callbacks

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done += 1
        result = trial.last_result
        how = "" if result.get("ended", True) else f", stopped after epoch {result['epoch']}"
        self.progress.to(
            self.done,
            f"{self.group.name_of(trial.config)}: validation SRCC {result['val_srcc']:.3f}, {result['epochs']} epochs, "
            f"{result['seconds']:.0f} s{how}",
        )
        if self.group.on_end is not None:
            self.group.on_end(trial.config, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.failed += 1
        say(f"sweep: {self.group.name_of(trial.config)} failed")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.progress.close()
