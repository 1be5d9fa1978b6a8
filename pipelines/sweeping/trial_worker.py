"""A Tune worker's side of a trial: the computation, and the files it leaves, so that nothing is lost with the driver.

A trial of the grid adapts and scores the test images. A trial of a search only validates: it never sees a test image.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray import tune

from grmp_core.errors import NonFiniteLossError
from grmp_core.evaluation.metrics import evaluate
from grmp_core.evaluation.splits import Split
from grmp_core.identity import Identity
from grmp_core.learning.few_shot import adapt, predict_quality, train, validation_curve
from grmp_core.learning.labelled_views import LabelledViews
from grmp_core.model.bundle import LEARNED_FROM, Bundle, write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scorer import likeness_of
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.configuration.loading import LAMBDA, with_settings
from pipelines.configuration.schema import Config
from pipelines.few_shot.adapted_bundle import adapted_bundle
from pipelines.few_shot.encoded_target import EncodedTarget
from pipelines.few_shot.starting_model import compute_device, process_model
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.tables import EXCESS
from pipelines.results.trial import METRICS, SettingResult, Trial, TrialResult
from pipelines.runtime.computing import prepare_to_compute
from pipelines.runtime.metrics import count

WORST_SRCC = -1.0  # what a scheduler sees where SRCC is not defined
_CUDA_CONTEXT_BYTES = 600 << 20
_MEASURED_IMAGES = 64  # their views fill a batch of predict_quality


@dataclass(frozen=True)
class Shared:
    """Inputs that all trials of a sweep have in common; the encoded target once in the object store."""

    config: Config
    start: Bundle
    encoded: ray.ObjectRef
    score_range: ScoreRange
    folder_uri: str
    """The sweep's folder."""
    identity: Identity
    """Every setting and input that decides about a trial's numbers."""

    @property
    def folder(self) -> SweepFolder:
        return SweepFolder(locate(self.folder_uri))


def grid_trial(params: dict[str, Any], shared: Shared, trials: Mapping[str, Trial]) -> None:
    """Adapt to the labels of `params["trial"]` with its lambda, score the test images of its split, write its files."""
    began = time.perf_counter()
    trial = trials[params["trial"]]
    config = with_settings(shared.config, {**trial.settings, LAMBDA: trial.strength})
    encoded, model = _prepare(shared, config)
    split, rows, labelled = _labelled(trial, encoded, model)
    result = adapt(model, model.adaptable_parameters(shared.start.parameters), labelled, config.adapt, split.seed)
    test = encoded.views(split.test, model.dtype, model.device)
    predicted = predict_quality(model, result.parameters, test.score_tokens_NGTD).cpu().numpy()
    predicted_mos = np.asarray(shared.score_range.to_mos(predicted))  # of the labels' own direction: DMOS falls
    scores = evaluate(predicted_mos, encoded.mos[split.test])
    folder = shared.folder.trial(trial.name)
    outcome = TrialResult(
        val_srcc=float(result.val_srcc),
        srcc=scores.srcc,
        plcc=scores.plcc,
        plcc_logistic=scores.plcc_logistic,
        krcc=scores.krcc,
        rmse=scores.rmse,
        logistic_converged=scores.logistic_converged,
        epochs=result.epochs,
        seconds=time.perf_counter() - began,
        bundle=folder.bundle.uri,
    )
    about = {**trial.as_row(), LEARNED_FROM: [encoded.image_ids[i] for i in rows]}
    bundle = adapted_bundle(config, shared.start, result, labelled, shared.score_range, about)
    metrics = {**bundle.metrics, **{name: getattr(outcome, name) for name in METRICS}}
    held_out = pd.DataFrame(
        {
            "image_path": [encoded.image_path[i] for i in split.test],
            "mos": encoded.mos[split.test],
            "quality": predicted,
            "mos_scale_score": predicted_mos,
        }
    )
    likeness = None if bundle.evidence is None else likeness_of(bundle, bundle.evidence)
    if likeness is not None:
        held_out[EXCESS] = likeness.excess(encoded.statistics(split.test))
    folder.begin()
    write_bundle(folder.bundle, dataclasses.replace(bundle, metrics=metrics))
    folder.write_history(result)
    folder.write_predictions(held_out)
    folder.finish(shared.identity, {**trial.as_row(), **dataclasses.asdict(outcome)})
    count("grmp_trials", kind="grid")
    tune.report({name: getattr(outcome, name) for name in ("val_srcc", "epochs", "seconds")})


def search_trial(params: dict[str, Any], shared: Shared, trial: Trial) -> None:
    """Validate one setting of a search on the labels of `trial`, epoch by epoch, so that a scheduler can stop it.

    A setting that diverges is a finding, not a failure: it is kept with its error and not tried again.
    """
    began = time.perf_counter()
    config = with_settings(shared.config, params["settings"])
    folder = shared.folder.setting(params["settings"])
    before = folder.setting_result(shared.identity)
    if before is not None:  # a sampler may suggest the same again
        tune.report(_progress(before.val_srcc, before.epochs, config.adapt.epochs, before.seconds, ended=True))
        return
    encoded, model = _prepare(shared, config)
    split, _, labelled = _labelled(trial, encoded, model)
    start = model.adaptable_parameters(shared.start.parameters)
    best, epochs, error = math.nan, 0, None
    try:
        for epoch, score in validation_curve(model, start, labelled, config.adapt, split.seed):
            if math.isfinite(score) and not score <= best:
                best, epochs = score, epoch
            if epoch < config.adapt.epochs:
                tune.report(_progress(best, epochs, epoch, time.perf_counter() - began, ended=False))
    except NonFiniteLossError as failure:
        best, epochs, error = math.nan, 0, str(failure)
    result = SettingResult(
        settings=params["settings"],
        shots=trial.shots,
        split_seed=trial.split_seed,
        val_srcc=best,
        epochs=epochs,
        seconds=time.perf_counter() - began,
        error=error,
    )
    folder.finish(shared.identity, result.as_row())
    count("grmp_trials", kind="setting")
    tune.report(_progress(best, epochs, config.adapt.epochs, result.seconds, ended=True))


def measure_trial(shared: Shared, trial: Trial) -> tuple[int, float]:
    """(bytes of main memory, share of a GPU's memory) of a worker that holds the trial and made one step."""
    config = shared.config
    _forget_peak()
    encoded, model = _prepare(shared, config)
    split, _, labelled = _labelled(trial, encoded, model)
    test = encoded.views(split.test, model.dtype, model.device)
    first = labelled.subset(np.arange(min(len(labelled), config.adapt.batch_size)))
    _, parameters = next(train(model, model.adaptable_parameters(shared.start.parameters), first, config.adapt, 0, 1))
    predict_quality(model, parameters, test.score_tokens_NGTD[:_MEASURED_IMAGES])
    peak = _peak_bytes()
    if model.device.type == "cpu":
        return peak, 0.0
    on_device = torch.cuda.max_memory_reserved() + _CUDA_CONTEXT_BYTES
    return peak, on_device / torch.cuda.get_device_properties(model.device).total_memory


def _forget_peak() -> None:
    """Let the process's peak of memory begin anew: a worker may have done other things before.

    Where the system cannot (others than Linux), a trial seems to need what the worker ever held: too much, never less.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _prepare(shared: Shared, config: Config) -> tuple[EncodedTarget, QualityModel]:
    prepare_to_compute(config.sweep.cpus_per_trial)
    device = compute_device(config.sweep.gpus_per_trial)
    return ray.get(shared.encoded), process_model(config, shared.start, device)


def _labelled(trial: Trial, encoded: EncodedTarget, model: QualityModel) -> tuple[Split, np.ndarray, LabelledViews]:
    """-> the split, the labelled rows, and their views."""
    split = encoded.protocol.parts(trial.split_seed)
    rows = encoded.protocol.labelled(split, trial.shots)
    return split, rows, encoded.views(rows, model.dtype, model.device)


def _progress(best: float, best_epoch: int, epoch: int, seconds: float, *, ended: bool) -> dict[str, Any]:
    val_srcc = best if math.isfinite(best) else WORST_SRCC
    return {"val_srcc": val_srcc, "epochs": best_epoch, "epoch": epoch, "seconds": seconds, "ended": ended}
