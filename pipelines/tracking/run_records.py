"""Contents of an MLflow run, made from a folder's files: parameters, metrics by step, and files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Run

from grmp_core.strict_json import json_text
from pipelines.results.statistics import cells
from pipelines.results.sweep_folder import SweepResults
from pipelines.results.trial import METRICS

Values = list[tuple[str, float | None, int]]
"""Name, value, step."""
LABELS, UNLABELLED = "labels", "unlabelled"
"""Contexts of data sets."""
PROMPTS, TEACHER = "start_digest", "teacher_digest"
"""Inputs in a manifest: digests of bundles."""
_CONTEXT = "mlflow.data.context"
_TRIAL_METRICS = (*METRICS, "val_srcc", "epochs", "seconds")
_TRIAL_PARAMS = ("lambda", "shots", "budget", "data_ratio", "split_seed", "bundle")
_NAME = re.compile(r"[\w.]+")
_MAX_DIGEST = 36  # characters, of MLflow's own
_MAX_TEXT = 5000  # characters of a parameter or tag; MLflow takes 6000 and 8000


def sweep_metrics(sweep: SweepResults) -> Values:
    """Counts, and the medians of the chosen cell."""
    metrics: dict[str, float] = {"trials": len(sweep.trials), "failed": len(sweep.failed)}
    if sweep.chosen is not None:
        chosen = sweep.trials[sweep.trials["trial"] == sweep.chosen.trial].iloc[0]
        table = cells(sweep.trials)
        cell = table[(table["lambda"] == chosen["lambda"]) & (table["budget"] == chosen["budget"])].iloc[0]
        metrics |= {"chosen_lambda": float(chosen["lambda"]), "chosen_shots": float(chosen["shots"])}
        metrics |= {f"chosen_{name}": float(cell[name]) for name in ("srcc_median", "plcc_median", "val_srcc_median")}
    return [(name, value, 0) for name, value in metrics.items()]


def trial_params(row: dict[str, Any]) -> dict[str, Any]:
    """A trial's settings: its cell, and the keys of the configuration that a search varied (with a dot)."""
    names = [name for name in row if name in _TRIAL_PARAMS or "." in str(name)]
    return {name: row[name] for name in names if pd.notna(row[name])}


def trial_metrics(row: dict[str, Any], history: dict[str, Any]) -> Values:
    """Final values, and the curves by epoch under `epoch/`."""
    values: Values = [(name, row[name], 0) for name in _TRIAL_METRICS if name in row]
    values += [(name, float(row[name]), 0) for name in ("stopped", "won") if name in row]
    for record in history.get("history", ()):
        values += [(f"epoch/{name}", value, int(record["epoch"])) for name, value in record.items() if name != "epoch"]
    return values + [("epoch/val_srcc", score, int(epoch)) for epoch, score in history.get("val_srcc_by_epoch", ())]


def history_metrics(history: Sequence[dict[str, Any]]) -> Values:
    """The curves of a training by step."""
    return [
        (name, value, int(record["step"]))
        for record in history
        for name, value in record.items()
        if name != "step" and isinstance(value, (int, float))
    ]


def datasets(manifest: dict[str, Any]) -> list[DatasetInput]:
    """Label table, task store and unlabelled images of a command, by the fingerprints in its manifest; the context says
    which it is."""
    config, inputs = manifest.get("config", {}), manifest.get("inputs", {})
    target, output = config.get("target", {}), config.get("output", "")
    images = ", ".join(config.get("distil", {}).get("images", ()))
    known = {
        "target": (str(target.get("dataset", "target")), str(target.get("path", "")), LABELS),
        "tasks": ("tasks", f"{output}/tasks", "tasks"),
        UNLABELLED: (UNLABELLED, text(images), UNLABELLED),
    }
    found = []
    for key, (name, uri, context) in known.items():
        if isinstance(inputs.get(key), str):
            source, digest = json_text({"uri": uri}), inputs[key][:_MAX_DIGEST]
            dataset = Dataset(name=name, digest=digest, source_type="grmp-iqa", source=source)
            found.append(DatasetInput(dataset, tags=[InputTag(_CONTEXT, context)]))
    return found


def datasets_by_context(run: Run) -> dict[str, Dataset]:
    """The data that a run has used, the first of each context."""
    found: dict[str, Dataset] = {}
    for used in run.inputs.dataset_inputs if run.inputs else []:
        contexts = [tag.value for tag in used.tags if tag.key == _CONTEXT]
        found.setdefault(contexts[0] if contexts else "", used.dataset)
    return found


def measured_on(metric: str) -> str:
    """Context of the data that a metric of a bundle is about."""
    return UNLABELLED if metric == "teacher_srcc" else LABELS


def started_from(manifest: dict[str, Any]) -> tuple[str, ...]:
    """Digests of the bundles of prompts and teachers that a command began with."""
    inputs = manifest.get("inputs", {})
    return tuple(inputs[name] for name in (PROMPTS, TEACHER) if isinstance(inputs.get(name), str))


def stream_metrics(manifest: dict[str, Any], srcc: pd.DataFrame) -> Values:
    """SRCC of every set by step (1 is the first), and the measures of the whole stream."""
    values: Values = [
        (f"srcc/{name}", float(value), step) for name in srcc.columns for step, value in enumerate(srcc[name], start=1)
    ]
    counts = manifest.get("counts", {})
    return values + [(name, value, len(srcc)) for name, value in counts.items() if isinstance(value, float)]


def stream_datasets(manifest: dict[str, Any]) -> list[DatasetInput]:
    """The labels of every set."""
    return [
        DatasetInput(
            Dataset(name, digest[:_MAX_DIGEST], "grmp-iqa", json_text({"set": name})),
            tags=[InputTag(_CONTEXT, LABELS)],
        )
        for name, digest in manifest.get("inputs", {}).items()
    ]


def flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested sections as dotted names, values as text. A table named by its user, such as `ablate.pretrained`, is one
    value: MLflow does not take every character in a name."""
    for name, value in config.items():
        if isinstance(value, dict) and all(_NAME.fullmatch(inner) for inner in value):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", text(value)


def manifest_tags(manifest: dict[str, Any]) -> dict[str, str]:
    """Commit, fingerprints of the inputs, and versions."""
    tags = {f"grmp.input.{name}": text(value) for name, value in manifest.get("inputs", {}).items()}
    tags |= {f"grmp.version.{name}": text(value) for name, value in manifest.get("versions", {}).items()}
    if manifest.get("git_commit"):
        tags["mlflow.source.git.commit"] = manifest["git_commit"]
    return tags


def text(value: object) -> str:
    return str(value)[:_MAX_TEXT]
