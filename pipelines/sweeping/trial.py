"""One trial of a sweep: what a Tune worker computes, and the files it leaves, so that nothing is lost with the driver.

A trial of the grid adapts and scores the test images. A trial of a search only validates: it never sees a test image.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray import tune

from grmp_core.errors import NonFiniteLossError
from grmp_core.evaluation import splits
from grmp_core.evaluation.metrics import Scores, evaluate
from grmp_core.learning.few_shot import AdaptResult, LabelledViews, adapt, predict_quality, train, validation_curve
from grmp_core.model.bundle import LEARNED_FROM, Bundle, write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location, locate
from pipelines.configuration.loading import build, with_settings
from pipelines.configuration.schema import Config
from pipelines.few_shot.adapted_bundle import adapted_bundle
from pipelines.few_shot.encoded_target import EncodedTarget
from pipelines.few_shot.starting_model import compute_device, process_model
from pipelines.results.sweep_folder import (
    METRICS,
    finished_row,
    search_name,
    search_place,
    search_row,
    to_parquet,
    write_row,
)

WORST_SRCC = -1.0  # what a scheduler sees where SRCC is not defined
_CUDA_CONTEXT_BYTES = 600 << 20
_MEASURED_IMAGES = 64  # their views fill a batch of predict_quality


@dataclass(frozen=True)
class Shared:
    """What all trials of a sweep have in common; the encoded target once in the object store."""

    config: dict[str, Any]
    start: Bundle
    encoded: ray.ObjectRef
    score_range: ScoreRange
    place: str
    """The sweep's folder."""
    identity: str
    """Differs when any setting or input that decides about a trial's numbers differs."""

    def settings(self) -> Config:
        return build(Config, self.config, "")


def grid_trial(params: dict[str, Any], shared: Shared) -> None:
    """Adapt to the labels of `params["cell"]` with its lambda, and score the test images of its split."""
    began = time.perf_counter()
    cell, config = params["cell"], shared.settings()
    qgr = dataclasses.replace(config.adapt.qgr, strength=cell["lambda"])
    config = dataclasses.replace(config, adapt=dataclasses.replace(config.adapt, qgr=qgr))
    encoded, model = _prepare(shared, config)
    split, rows, labelled = _labelled(cell, encoded, config, model)
    result = adapt(model, model.adaptable_parameters(shared.start.parameters), labelled, config.adapt, split.seed)
    test = encoded.views(split.test, model.dtype, model.device)
    predicted = predict_quality(model, result.parameters, test.score_tokens_NGTD).cpu().numpy()
    predicted_mos = np.asarray(shared.score_range.to_mos(predicted))  # of the labels' own direction: DMOS falls
    scores = evaluate(predicted_mos, encoded.mos[split.test])
    row = _result_row(cell, result, scores, time.perf_counter() - began)
    about = {**cell, LEARNED_FROM: [encoded.image_ids[i] for i in rows]}
    bundle = adapted_bundle(config, shared.start, result, shared.score_range, about)
    bundle = dataclasses.replace(bundle, metrics={**bundle.metrics, **_metrics(scores)})
    place = locate(shared.place) / "trials" / cell["trial"]
    row["bundle"] = (place / "bundle").uri
    held_out = pd.DataFrame(
        {
            "image_path": [encoded.image_path[i] for i in split.test],
            "mos": encoded.mos[split.test],
            "quality": predicted,
            "mos_scale_score": predicted_mos,
        }
    )
    _write_trial(place, bundle, result, row, shared.identity, held_out)
    tune.report({key: row[key] for key in ("val_srcc", "epochs", "seconds")})


def search_trial(params: dict[str, Any], shared: Shared, cell: dict[str, Any]) -> None:
    """Validate one setting of a search, epoch by epoch, so that a scheduler can stop it in between.

    A setting that diverges is a finding, not a failure: it is kept with its error and not tried again.
    """
    began = time.perf_counter()
    config = with_settings(shared.settings(), params["settings"])
    place = search_place(locate(shared.place), search_name(params["settings"]))
    known = finished_row(place, shared.identity)
    if known is not None:  # a sampler may suggest the same again
        tune.report(_progress(known["val_srcc"], known["epochs"], config.adapt.epochs, known["seconds"], ended=True))
        return
    encoded, model = _prepare(shared, config)
    split, _, labelled = _labelled(cell, encoded, config, model)
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
    seconds = time.perf_counter() - began
    write_row(place, shared.identity, search_row(params["settings"], cell, best, epochs, seconds, error=error))
    tune.report(_progress(best, epochs, config.adapt.epochs, seconds, ended=True))


def measure_trial(shared: Shared, cell: dict[str, Any]) -> tuple[int, float]:
    """(bytes of main memory, share of a GPU's memory) of a worker that holds a trial of `cell` and made one step."""
    config = shared.settings()
    _forget_peak()
    encoded, model = _prepare(shared, config)
    split, _, labelled = _labelled(cell, encoded, config, model)
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
    torch.set_num_threads(max(1, int(config.sweep.cpus_per_trial)))
    device = compute_device(config.sweep.gpus_per_trial)
    return ray.get(shared.encoded), process_model(config, shared.start, device)


def _labelled(
    cell: dict[str, Any], encoded: EncodedTarget, config: Config, model: QualityModel
) -> tuple[splits.Split, np.ndarray, LabelledViews]:
    """-> the split, the labelled rows, and their views."""
    split = splits.split(encoded.reference_ids, cell["split_seed"], config.sweep.test_fraction)
    rows = splits.draw_shots(split, cell["shots"], cell["split_seed"])
    return split, rows, encoded.views(rows, model.dtype, model.device)


def _progress(best: float, best_epoch: int, epoch: int, seconds: float, *, ended: bool) -> dict[str, Any]:
    val_srcc = best if math.isfinite(best) else WORST_SRCC
    return {"val_srcc": val_srcc, "epochs": best_epoch, "epoch": epoch, "seconds": seconds, "ended": ended}


def _result_row(cell: dict[str, Any], result: AdaptResult, scores: Scores, seconds: float) -> dict[str, Any]:
    return {
        **cell,
        "val_srcc": float(result.val_srcc),
        **_metrics(scores),
        "logistic_converged": scores.logistic_converged,
        "epochs": result.epochs,
        "seconds": seconds,
        "error": None,
    }


def _metrics(scores: Scores) -> dict[str, float]:
    return {name: float(getattr(scores, name)) for name in METRICS}


def _write_trial(
    place: Location,
    bundle: Bundle,
    result: AdaptResult,
    row: dict[str, Any],
    identity: str,
    held_out: pd.DataFrame,
) -> None:
    """All of a trial's files; `trial.json` last, since it makes the trial count as finished."""
    if (place / "trial.json").exists():  # of another sweep, whose files are replaced now
        (place / "trial.json").delete()
    write_bundle(place / "bundle", bundle)
    history = [dataclasses.asdict(record) for record in result.history]
    (place / "history.json").write_json({"history": history, "val_srcc_by_epoch": result.val_srcc_by_epoch})
    (place / "predictions.parquet").write_bytes(to_parquet(held_out))
    write_row(place, identity, row)
