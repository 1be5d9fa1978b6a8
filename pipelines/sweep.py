"""lambda x labels x split seeds with Ray Tune. Light trials: they share the encoded target through the object store."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray import tune

from grmp_core import protocol
from grmp_core.adapt import AdaptResult, adapt, predict_quality
from grmp_core.bundle import Bundle, write_bundle
from grmp_core.datasets import ScoreRange
from grmp_core.errors import InputError
from grmp_core.metrics import Scores, evaluate
from grmp_core.model import QualityModel
from grmp_core.storage import Location
from pipelines import report
from pipelines.adapt import adapted_bundle
from pipelines.config import Config, as_dict, build
from pipelines.session import config_hash, output_place, ray_session, say, table, write_manifest
from pipelines.target import EncodedTarget, adapting_model, compute_device, encode_target, initial_prompts, load_target
from pipelines.tracking import open_tracking

METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")


@dataclass(frozen=True)
class Sweep:
    """Result of `grmp sweep`."""

    results: pd.DataFrame
    chosen: dict[str, Any] | None
    place: str

    def as_json(self) -> dict[str, Any]:
        return {"results": json.loads(self.results.to_json(orient="records")), "chosen": self.chosen}

    def as_text(self) -> str:
        good = self.results[self.results["error"].isna()]
        by_cell = good.groupby(["shots", "lambda"])
        rows = [
            {
                "shots": shots,
                "lambda": strength,
                "splits": len(cell),
                "SRCC median": cell["srcc"].median(),
                "IQR": f"{cell['srcc'].quantile(0.25):.3f}-{cell['srcc'].quantile(0.75):.3f}",
                "PLCC median": cell["plcc"].median(),
                "val SRCC": cell["val_srcc"].median(),
                "epochs": cell["epochs"].median(),
            }
            for (shots, strength), cell in by_cell
        ]
        failed = self.results[self.results["error"].notna()]
        lines = [table(rows), *(f"failed: {row.trial}: {row.error}" for row in failed.itertuples())]
        if self.chosen:
            lines.append(f"chosen: lambda {self.chosen['lambda']:g} ({self.chosen['reason']})")
        return "\n".join([*lines, self.place])


def run(config: Config) -> Sweep:
    """Adapt once per lambda, number of shots, and split; write `<output>/sweep` with its report, and log it to MLflow.

    Finished trials are not run again.
    """
    started = time.time()
    place = output_place(config, "sweep")
    start = initial_prompts(config)
    target = load_target(config.target)
    identity = _identity(config, start, target.fingerprint())
    with ray_session():
        _check_resources(config)
        cells = plan_trials(config, tuple(target.table["reference_id"].to_pylist()))
        todo = [cell for cell in cells if _finished(place, cell, identity) is None]
        say(f"sweep: {len(cells)} trials, {len(cells) - len(todo)} already finished")
        errors: dict[str, str] = {}
        rejected: tuple[dict[str, str], ...] = ()
        if todo:
            encoded = encode_target(config, target, start, config.sweep.gpus_per_trial)
            rejected = encoded.rejected
            plan_trials(config, encoded.reference_ids)  # enough images must be left without the unreadable ones
            errors = _run_trials(config, start, encoded, target.score_range, todo, place, identity)
    results = _collect(place, cells, identity, errors)
    chosen = choose(results)
    _write_results(place, results, chosen)
    write_manifest(
        place,
        "sweep",
        config,
        started,
        inputs={"identity": identity, "target": target.fingerprint(), "prompts": start.provenance.get("tasks")},
        counts={"images": target.table.num_rows, "trials": len(cells), "failed": len(errors)},
        rejected=rejected or [{"path": r.path, "reason": r.reason} for r in target.rejected],
    )
    report.run(config)
    open_tracking(config).log_sweep(place)
    if len(errors) == len(cells):
        raise RuntimeError(f"all {len(cells)} trials failed; the first: {next(iter(errors.values()))}")
    return Sweep(results, chosen, place.uri)


def plan_trials(config: Config, reference_ids: tuple[str, ...]) -> list[dict[str, Any]]:
    """The grid: dicts with trial, lambda, shots, data_ratio, split_seed. InputError for shots that do not exist."""
    cells = []
    for seed in config.sweep.split_seeds:
        split = protocol.split(reference_ids, seed, config.sweep.test_fraction)
        shots_of = list(config.sweep.shots) or [
            protocol.shots_from_ratio(split, ratio) for ratio in config.sweep.ratios or (1.0,)
        ]
        for shots in shots_of:
            protocol.draw_shots(split, shots, seed)
            cells += [
                {
                    "trial": f"lambda={strength:g}-shots={shots}-seed={seed}",
                    "lambda": strength,
                    "data_ratio": shots / len(split.train),
                    "shots": shots,
                    "split_seed": seed,
                }
                for strength in config.sweep.lambdas
            ]
    return cells


def choose(results: pd.DataFrame) -> dict[str, Any] | None:
    """The model to register, by validation only: at the most shots, the lambda with the best median validation SRCC,
    and of its splits the one with the best validation SRCC. None when no trial has a validation SRCC."""
    good = results[results["error"].isna() & results["val_srcc"].notna()]
    if good.empty:
        return None
    largest = good[good["shots"] == good["shots"].max()]
    medians = largest.groupby("lambda")["val_srcc"].median()
    strength = float(medians.idxmax())
    best = largest[largest["lambda"] == strength].sort_values("val_srcc", ascending=False).iloc[0]
    reason = f"best median validation SRCC {medians.max():.3f} at {int(best['shots'])} shots; test scores took no part"
    return {
        "lambda": strength,
        "shots": int(best["shots"]),
        "trial": best["trial"],
        "bundle": best["bundle"],
        "reason": reason,
    }


def _run_trials(
    config: Config,
    start: Bundle,
    encoded: EncodedTarget,
    score_range: ScoreRange,
    todo: list[dict[str, Any]],
    place: Location,
    identity: str,
) -> dict[str, str]:
    """Run the trials; -> error by trial. A trial writes what it finds itself: nothing is lost with the driver."""
    wanted = config.sweep
    trainable = tune.with_resources(
        tune.with_parameters(
            _trial, config=as_dict(config), start=start, encoded=encoded, score_range=score_range, identity=identity
        ),
        {"cpu": wanted.cpus_per_trial, "gpu": wanted.gpus_per_trial},
    )
    tuner = tune.Tuner(
        trainable,
        param_space={"cell": tune.grid_search(todo)},
        tune_config=tune.TuneConfig(
            reuse_actors=True, metric="val_srcc", mode="max", trial_dirname_creator=lambda trial: trial.trial_id
        ),
        run_config=tune.RunConfig(
            name=f"tune-{identity}-{int(time.time())}",
            storage_path=place.uri,
            failure_config=tune.FailureConfig(max_failures=wanted.max_failures),
            verbose=0,
            callbacks=[_Progress(len(todo))],
        ),
    )
    grid = tuner.fit()
    results = [grid[i] for i in range(len(grid))]
    return {r.config["cell"]["trial"]: _one_line(r.error) for r in results if r.error is not None and r.config}


class _Progress(tune.Callback):
    """One line a finished trial, for job logs."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done += 1
        result = trial.last_result
        say(
            f"sweep: {self.done}/{self.total} {trial.config['cell']['trial']}: "
            f"validation SRCC {result['val_srcc']:.3f}, {result['epochs']} epochs, {result['seconds']:.0f} s"
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        say(f"sweep: {trial.config['cell']['trial']} failed")


def _trial(
    params: dict[str, Any],
    config: dict[str, Any],
    start: Bundle,
    encoded: EncodedTarget,
    score_range: ScoreRange,
    identity: str,
) -> None:
    """One cell of the grid, in a Tune worker."""
    began = time.perf_counter()
    torch.set_num_threads(max(1, int(config["sweep"]["cpus_per_trial"])))
    cell = params["cell"]
    settings: Config = build(Config, config, "")
    device = compute_device(settings.sweep.gpus_per_trial)
    model = _model(identity, device, _Held(settings, start))
    qgr = dataclasses.replace(settings.adapt.qgr, strength=cell["lambda"])
    settings = dataclasses.replace(settings, adapt=dataclasses.replace(settings.adapt, qgr=qgr))
    split = protocol.split(encoded.reference_ids, cell["split_seed"], settings.sweep.test_fraction)
    rows = protocol.draw_shots(split, cell["shots"], cell["split_seed"], encoded.quality)
    labelled = encoded.views(rows, model.dtype, device)
    result = adapt(model, model.adaptable_parameters(start.parameters), labelled, settings.adapt, cell["split_seed"])
    test = encoded.views(split.test, model.dtype, device)
    predicted = predict_quality(model, result.parameters, test.score_tokens_NGTD).cpu().numpy()
    scores = evaluate(predicted, encoded.mos[split.test])
    row = _result_row(cell, result, scores, time.perf_counter() - began)
    bundle = adapted_bundle(settings, start, result, score_range, cell)
    bundle = dataclasses.replace(bundle, metrics={**bundle.metrics, **_metrics(scores)})
    place = output_place(settings, "sweep") / "trials" / cell["trial"]
    row["bundle"] = (place / "bundle").uri
    _write_trial(place, bundle, result, row, identity, encoded, split.test, predicted)
    tune.report({key: row[key] for key in ("val_srcc", "epochs", "seconds")})


@dataclass(frozen=True, eq=False)
class _Held:
    """Lets `cache` ignore an argument that the others determine."""

    config: Config
    start: Bundle

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)


@cache
def _model(identity: str, device: torch.device, held: _Held) -> QualityModel:
    """Trials that follow each other in one worker share the model: no trial changes it."""
    return adapting_model(held.config, held.start, device)


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
    encoded: EncodedTarget,
    test: np.ndarray,
    predicted: np.ndarray,
) -> None:
    """All of a trial's files; `trial.json` last, since it makes the trial count as finished."""
    write_bundle(place / "bundle", bundle)
    history = [dataclasses.asdict(record) for record in result.history]
    (place / "history.json").write_json({"history": history, "val_srcc_by_epoch": result.val_srcc_by_epoch})
    frame = pd.DataFrame(
        {"image_path": [encoded.image_path[i] for i in test], "mos": encoded.mos[test], "quality": predicted}
    )
    (place / "predictions.parquet").write_bytes(_parquet(frame))
    (place / "trial.json").write_json({"identity": identity, "row": row})


def _finished(place: Location, cell: dict[str, Any], identity: str) -> dict[str, Any] | None:
    """The result row of a trial that was finished with the same settings and data."""
    marker = place / "trials" / cell["trial"] / "trial.json"
    if not marker.exists():
        return None
    content = marker.read_json()
    return content["row"] if content["identity"] == identity else None


def _collect(place: Location, cells: list[dict[str, Any]], identity: str, errors: dict[str, str]) -> pd.DataFrame:
    rows = []
    for cell in cells:
        row = None if cell["trial"] in errors else _finished(place, cell, identity)
        nothing: dict[str, Any] = dict.fromkeys(("val_srcc", *METRICS, "seconds"), math.nan)
        nothing |= {"logistic_converged": False, "epochs": 0, "bundle": None}
        rows.append(row or {**cell, **nothing, "error": errors.get(cell["trial"], "was not finished")})
    columns = [*cells[0], "val_srcc", *METRICS, "logistic_converged", "epochs", "seconds", "bundle", "error"]
    return pd.DataFrame(rows, columns=columns).sort_values(["shots", "lambda", "split_seed"], ignore_index=True)


def _write_results(place: Location, results: pd.DataFrame, chosen: dict[str, Any] | None) -> None:
    (place / "results.parquet").write_bytes(_parquet(results))
    (place / "results.csv").write_bytes(results.to_csv(index=False).encode())
    (place / "chosen.json").write_json(chosen or {})


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    return sink.getvalue()


def _identity(config: Config, start: Bundle, target_fingerprint: str) -> str:
    """Differs when any setting or input that decides about a trial's numbers differs."""
    prompts = {name: tensor.numpy().tobytes() for name, tensor in sorted(start.parameters.items())}
    return config_hash(
        config.seed,
        config.precision,
        config.views,
        config.adapt,
        config.images,
        config.sweep.test_fraction,
        start.backbone_sha256,
        prompts,
        target_fingerprint,
    )


def _check_resources(config: Config) -> None:
    have, wanted = ray.cluster_resources(), config.sweep
    if wanted.cpus_per_trial > have.get("CPU", 0) or wanted.gpus_per_trial > have.get("GPU", 0):
        raise InputError(
            f"a trial wants {wanted.cpus_per_trial:g} CPUs and {wanted.gpus_per_trial:g} GPUs, the cluster has "
            f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}; lower sweep.cpus_per_trial or sweep.gpus_per_trial"
        )


def _one_line(error: BaseException) -> str:
    """The cause a person can act on: the last line of what Ray wraps around it."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("sweep")
