"""`grmp card`: the way from a model to the run, data, prompts and labels it was made of, its numbers, its rights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from grmp_core.errors import InputError
from grmp_core.model.bundle import LEARNED_FROM, Bundle, read_bundle
from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.registry.rights import Right, rights_lines, rights_of, verdict_of
from pipelines.scoring.model_lookup import resolve_model
from pipelines.tracking.store_check import OUTAGE, reason
from pipelines.tracking.tracker import open_tracking

Way = list[tuple[str, str]]
"""Steps from the model to its labels: a name, and what is there."""
_INPUT = "grmp.input."


@dataclass(frozen=True, kw_only=True)
class Card:
    """Result of `grmp card`."""

    model: str
    way: Way
    metrics: dict[str, float]
    """NaN where a measure is not defined."""
    rights: list[Right]
    bundle: Bundle

    def as_json(self) -> dict[str, Any]:
        rights = [dataclasses.asdict(right) for right in self.rights]
        way = [{"step": step, "found": found} for step, found in self.way]
        about = {"model": self.model, "digest": self.bundle.digest, "way": way, "metrics": self.metrics}
        return {**about, "rights": rights, "commercial_use": verdict_of(self.rights)}

    def as_text(self) -> str:
        measured = {name: value for name, value in sorted(self.metrics.items()) if math.isfinite(value)}
        numbers = [f"{name} {value:.4f}" for name, value in measured.items()] or ["not measured"]
        lines = [f"# {self.model}", "", *(f"* {step}: {found}" for step, found in self.way), ""]
        return "\n".join([*lines, "## Numbers", "", *(f"* {one}" for one in numbers), "", *rights_lines(self.bundle)])


def card_of(config: Config) -> Card:
    """The card of `card.model`, the registered champion by default. InputError when there is none."""
    model = resolve_model(config.card.model or f"models:/{config.register.name}@champion", config)
    bundle = read_bundle(model.folder)
    begin = _way_in_mlflow(model.name, config) if model.name.startswith("models:/") else _way_on_disk(model.folder)
    return Card(
        model=model.name,
        way=[*begin, *_way_of_bundle(bundle)],
        metrics=bundle.metrics,
        rights=rights_of(bundle),
        bundle=bundle,
    )


def _way_in_mlflow(name: str, config: Config) -> Way:
    """From the model version to the run that made it, and the data that the run and its parent name."""
    tracker = open_tracking(config, needed_for=f"the origin of {name} cannot be shown")
    _, registered, number = name.split("/")
    try:
        version = tracker.client.get_model_version(registered, number)
        way = [("model version", f"{name}, registered {_time(version.creation_timestamp)}")]
        logged = version.model_id or (version.source or "unknown").removeprefix("models:/")
        way.append(("logged model", logged))
        if not version.run_id:
            return [*way, ("run", "none: the bundle was registered from a folder that is not logged")]
        return [*way, *_way_of_run(tracker.client, version.run_id)]
    except OUTAGE as error:
        raise InputError(f"MLflow at {tracker.address.shown} does not answer ({reason(error)}); start it") from error


def _way_of_run(client: MlflowClient, run_id: str) -> Way:
    """The run, its parent, and then the runs of the logged models that they started from, each once."""
    way: Way = []
    to_go, seen = [run_id], set[str]()
    while to_go:
        run_id = to_go.pop(0)
        if run_id in seen:
            continue
        seen.add(run_id)
        run = _unless_deleted(client.get_run, run_id)
        if run is None:
            way.append(("run", f"{run_id}, which was deleted"))
            continue
        way.append(("run", f"{run.info.run_name} ({run_id})"))
        tags = run.data.tags
        way += [(f"input {key.removeprefix(_INPUT)}", tags[key]) for key in sorted(tags) if key.startswith(_INPUT)]
        data = [used.dataset for used in run.inputs.dataset_inputs] if run.inputs else []
        way += [(f"data {one.name}", f"digest {one.digest}") for one in data]
        if "mlflow.source.git.commit" in tags:
            way.append(("code", tags["mlflow.source.git.commit"]))
        if "mlflow.parentRunId" in tags:
            to_go.append(tags["mlflow.parentRunId"])
        for used in run.inputs.model_inputs if run.inputs else []:
            model = _unless_deleted(client.get_logged_model, used.model_id)
            if model is None:
                way.append(("started from", f"{used.model_id}, which was deleted"))
                continue
            way.append(("started from", f"{model.model_type} {model.model_id}"))
            if model.source_run_id:
                to_go.append(model.source_run_id)
    return way


def _unless_deleted(get: Callable[[str], Any], name: str) -> Any:
    """An object of MLflow; null where MLflow answers that there is none."""
    try:
        return get(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _way_on_disk(folder: Location) -> Way:
    """From the bundle's folder to the manifest of the command that wrote it: of `adapt`, or of the trial's sweep."""
    way = [("bundle", folder.uri)]
    for place in (folder.parent, folder.parent.parent.parent):
        if (place / "manifest.json").exists():
            manifest = (place / "manifest.json").read_json()
            way.append(("command", f"grmp {manifest.get('command')}, {manifest.get('created_utc')}, {place.uri}"))
            way += [(f"input {name}", str(value)) for name, value in sorted(manifest.get("inputs", {}).items())]
            return [*way, ("code", str(manifest.get("git_commit") or "an installed package"))]
    return [*way, ("command", "unknown: there is no manifest beside the bundle")]


def _way_of_bundle(bundle: Bundle) -> Way:
    made, pretraining = bundle.provenance, bundle.provenance
    if bundle.kind == "model":
        pretraining = made.get("pretraining", {})
    learned = made.get(LEARNED_FROM)
    names = pretraining.get("tasks")
    labels = f"{len(learned)} images, listed by their hashes in the bundle" if learned else "not noted in the bundle"
    prompts = f"{len(names)} tasks of {', '.join(bundle.sources) or 'unknown'}" if names else "not pre-trained"
    way = [("backbone", f"{bundle.backbone.name}, weights sha256 {bundle.backbone_sha256[:12]}"), ("prompts", prompts)]
    if "teacher" in made:
        way.append(("teacher", f"{made['teacher']['name']}, on {made['unlabelled_images']} images without labels"))
    sets = [str(one["set"]) for one in made.get("stream", ())]
    if sets:
        way.append(("stream", f"{' -> '.join(sets)}, method {made.get('method')}"))
    if bundle.kind == "model":
        way += [("target", str(made.get("target", "unknown"))), ("labels", labels)]
        way += [(key, str(made[key])) for key in ("lambda", "shots", "split_seed", "seed", "epochs") if key in made]
    return way


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
