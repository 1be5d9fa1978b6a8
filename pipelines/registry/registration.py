"""`grmp register`: a bundle becomes a version of an MLflow model, and champion only if it earns it.

The alias `candidate` always moves to the new version. `champion` moves when there is none, or when the new version
ranks the same held-out images better than the champion by more than `register.margin`, with 95 % confidence, and its
intervals hold as many of the human scores as they promise. A version that does not get there is the `challenger`.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient

from grmp_core.errors import InputError
from grmp_core.model.bundle import Bundle, read_bundle, with_weights_at
from grmp_core.model.scorer import likeness_of
from grmp_core.storage import Location, locate
from grmp_core.strict_json import json_text
from pipelines.configuration.schema import Config
from pipelines.registry import aliases, model_package
from pipelines.registry.aliases import CANDIDATE, CHAMPION
from pipelines.registry.champion_decision import judge
from pipelines.registry.model_card import model_card
from pipelines.registry.split_ensemble import ensemble_of_splits
from pipelines.results.sweep_folder import SweepFolder, TrialFolder
from pipelines.scoring.model_lookup import resolve_model
from pipelines.scoring.registered_models import REFERENCE_DISTANCES, REFERENCE_SCORES, as_current
from pipelines.tracking.experiment import DIGEST
from pipelines.tracking.store_check import OUTAGE, reason
from pipelines.tracking.tracker import Tracker, open_tracking

_CONTENT = "grmp.content"
_NOTED_VALUES = 2000
"""Scores, and distances, that a version notes for `grmp drift`, at most."""


@dataclass(frozen=True)
class Registration:
    name: str
    version: int
    is_champion: bool
    reason: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        alias = CHAMPION if self.is_champion else CANDIDATE
        return f"models:/{self.name}/{self.version} @{alias}: {self.reason}"


def register_model(config: Config) -> Registration:
    """Register `register.bundle`, else the sweep's chosen model or the ensemble of its splits.

    The same bundle is never registered twice.

    With `register.rollback` nothing is registered: see `aliases.roll_back`.

    Raises InputError when there is no bundle, it is not an adapted model, or MLflow does not answer.
    """
    if config.register.rollback:
        return _roll_back(config)
    folder = _candidate_folder(config)
    bundle = with_weights_at(read_bundle(folder), config.backbone, folder.uri)
    if bundle.kind != "model":
        raise InputError(
            f"bundle {folder.uri} holds pre-trained prompts, not a model; adapt them to labelled images first"
        )
    name = config.register.name
    tracker = open_tracking(config, needed_for=f"model {name} cannot be registered")
    content = model_package.content_hash(config, bundle)
    try:
        same = tracker.client.search_model_versions(f"name = '{name}' and tags.`{_CONTENT}` = '{content}'")
        version = max((int(other.version) for other in same), default=None)
        if version is None:
            version = _log(config, tracker, folder, bundle, content)
        tracker.client.set_registered_model_alias(name, CANDIDATE, str(version))
        is_champion, decision = _judge(config, tracker.client, folder, version)
        (aliases.promote if is_champion else aliases.challenge)(tracker.client, name, version)
        tracker.client.set_model_version_tag(name, str(version), aliases.DECISION, decision)
        card = model_card(name, bundle, config.register.allow_local_paths, decision)
        tracker.client.update_model_version(name, str(version), description=card)
    except OUTAGE as error:
        raise InputError(
            f"MLflow at {tracker.address.shown} did not take the model ({reason(error)}); "
            "see to it and run the same command again"
        ) from error
    return Registration(name, version, is_champion, decision)


def _roll_back(config: Config) -> Registration:
    name = config.register.name
    tracker = open_tracking(config, needed_for=f"model {name} cannot be rolled back")
    try:
        version, decision = aliases.roll_back(tracker.client, name, tracker.address.shown)
    except OUTAGE as error:
        raise InputError(
            f"MLflow at {tracker.address.shown} did not move the champion ({reason(error)}); "
            "see to it and run the same command again"
        ) from error
    return Registration(name, version, True, decision)


def _candidate_folder(config: Config) -> Location:
    if config.register.bundle is not None:
        return locate(config.register.bundle)
    if config.register.ensemble == "splits":
        return ensemble_of_splits(config)
    folder = SweepFolder.of(config.output)
    chosen = folder.chosen()
    if chosen is None:
        raise InputError(
            f"nothing to register: the sweep at {folder.uri} has chosen no model, since it has not ended or no trial "
            "finished; run grmp sweep, or set register.bundle"
        )
    return folder.trial(chosen.trial).bundle  # an output may have moved since


def _judge(config: Config, client: MlflowClient, folder: Location, version: int) -> tuple[bool, str]:
    name = config.register.name
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if champion is None:
        return True, "there was no champion"
    if int(champion) == version:
        return True, "it is the champion already"
    if aliases.was_rolled_back(client, name, version):
        return False, (
            f"champion version {champion} stays: version {version} was rolled back; move the alias in MLflow to bring "
            "it back"
        )
    uri = f"models:/{name}/{champion}"
    return judge(
        folder, str(champion), lambda: resolve_model(uri, config).folder, config.register.margin, config.images
    )


# --- the registry --------------------------------------------------------------------------------------------------


def _log(config: Config, tracker: Tracker, folder: Location, bundle: Bundle, content: str) -> int:
    run = tracker.run_of_bundle(folder)
    with tempfile.TemporaryDirectory() as staging, as_current(tracker):
        model = mlflow.initialize_logged_model(
            name="quality-model",
            source_run_id=None if run is None else run.info.run_id,
            tags={_CONTENT: content, DIGEST: bundle.digest},
            params=_params(bundle),
            model_type="quality-model",
        )
        logged = mlflow.pyfunc.log_model(
            model_id=model.model_id,
            python_model=str(model_package.PROGRAM),
            artifacts=model_package.stage(Path(staging), folder, bundle),
            code_paths=[str(model_package.copy_package(Path(staging)))],
            pip_requirements=model_package.requirements(),
            signature=model_package.signature(bundle),
            input_example=model_package.example(),
            model_config=model_package.model_config(config),
            registered_model_name=config.register.name,
            await_registration_for=None,
        )
    if run is not None:
        tracker.link_model(model.model_id, run, bundle.metrics)
    version = int(logged.registered_model_version)
    held_out = TrialFolder(folder.parent).read_predictions()
    reference = {} if held_out is None or held_out.empty else {REFERENCE_SCORES: held_out["quality"].to_numpy(float)}
    likeness = None if bundle.evidence is None else likeness_of(bundle, bundle.evidence)
    if likeness is not None:
        reference[REFERENCE_DISTANCES] = likeness.labelled_distances
    for tag, values in reference.items():
        tracker.client.set_model_version_tag(config.register.name, str(version), tag, _noted(values))
    tracker.client.set_model_version_tag(config.register.name, str(version), _CONTENT, content)
    return version


def _noted(values_N: np.ndarray) -> str:
    """A distribution as a tag."""
    kept = np.linspace(0, len(values_N) - 1, min(len(values_N), _NOTED_VALUES)).astype(int)
    return json_text([round(value, 5) for value in np.sort(values_N)[kept].tolist()])


def _params(bundle: Bundle) -> dict[str, str]:
    """Target, lambda, labels and seeds of a model, for the search over logged models."""
    made = bundle.provenance
    return {key: str(made[key]) for key in ("target", "lambda", "shots", "split_seed", "seed") if key in made}
