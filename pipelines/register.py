"""`grmp register`: a bundle becomes a version of an MLflow model, and champion only if it earns it.

The alias `candidate` always moves to the new version. `champion` moves when there is none, or when the new version
ranks the same held-out images better than the champion by more than `register.margin`, with 95 % confidence.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from grmp_core.bundle import DESCRIPTION, Bundle, read_bundle, with_weights_at
from grmp_core.errors import InputError
from grmp_core.storage import Location, locate
from pipelines import packaging
from pipelines.champion import judge
from pipelines.config import Config
from pipelines.model_card import model_card
from pipelines.tracking import OUTAGE, Tracker, open_tracking

CHAMPION, CANDIDATE = "champion", "candidate"
_CONTENT, _DECISION = "grmp.content", "grmp.decision"
_MODEL_URI = re.compile(r"^models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))$")


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


def run(config: Config) -> Registration:
    """Register `register.bundle`, else the sweep's chosen model. The same bundle is never registered twice.

    Raises InputError when there is no bundle, it is not an adapted model, or MLflow does not answer.
    """
    place = _candidate_place(config)
    bundle = with_weights_at(read_bundle(place), config.backbone, place.uri)
    if bundle.kind != "model":
        raise InputError(f"bundle {place.uri} holds pre-trained prompts, no model; adapt it to labelled images first")
    tracker = open_tracking(config)
    name = config.register.name
    content = packaging.content_hash(config, place)
    try:
        version = _find(tracker.client, name, content) or _log(config, tracker, place, bundle, content)
        tracker.client.set_registered_model_alias(name, CANDIDATE, str(version))
        is_champion, reason = _judge(config, tracker.client, place, version)
        if is_champion:
            tracker.client.set_registered_model_alias(name, CHAMPION, str(version))
        tracker.client.set_model_version_tag(name, str(version), _DECISION, reason)
        card = model_card(name, bundle, config.register.allow_local_paths, reason)
        tracker.client.update_model_version(name, str(version), description=card)
    except OUTAGE as error:
        raise InputError(
            f"MLflow at {tracker.uri} did not take the model ({type(error).__name__}: {_one_line(error)}); "
            "see to it and run the same command again"
        ) from error
    return Registration(name, version, is_champion, reason)


class ResolvedModel(NamedTuple):
    name: str
    """`models:/name/version`, or the address of the bundle's folder: what a record of its use says."""
    place: Location
    """Folder of the bundle, for as long as this process lives."""


def resolve_model(uri: str, config: Config) -> ResolvedModel:
    """Find the bundle in a folder, or that of `models:/name@alias` or `models:/name/version`.

    A registered model is downloaded once, to `models/` in a local output, else to a temporary folder. InputError when
    the registry has no such model, with what it has.
    """
    if not uri.startswith("models:"):
        place = locate(uri)
        return ResolvedModel(place.uri, place)
    match = _MODEL_URI.match(uri)
    if match is None:
        raise InputError(f"model '{uri}': write models:/name@alias or models:/name/version, or a bundle's folder")
    tracker = open_tracking(config)
    try:
        found = _version_of(tracker.client, match, tracker.uri)
        place = _download(config, tracker, match["name"], found)
    except OUTAGE as error:
        raise InputError(
            f"model {uri} could not be fetched from MLflow at {tracker.uri} ({type(error).__name__}: "
            f"{_one_line(error)}); start the server, correct tracking.uri, or give a bundle's folder"
        ) from error
    return ResolvedModel(f"models:/{match['name']}/{found.version}", place)


def _candidate_place(config: Config) -> Location:
    if config.register.bundle is not None:
        return locate(config.register.bundle)
    file = locate(config.output) / "sweep" / "chosen.json"
    if not file.exists():
        raise InputError(f"nothing to register: {file.uri} is missing; run grmp sweep, or set register.bundle")
    chosen = file.read_json()
    if not chosen.get("bundle"):
        raise InputError(f"nothing to register: the sweep of {file.uri} chose no model, since no trial finished")
    return locate(chosen["bundle"])


def _judge(config: Config, client: MlflowClient, place: Location, version: int) -> tuple[bool, str]:
    name = config.register.name
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if champion is None:
        return True, "there was no champion"
    if int(champion) == version:
        return True, "it is the champion already"
    uri = f"models:/{name}/{champion}"
    return judge(place, str(champion), lambda: resolve_model(uri, config).place, config.register.margin, config.images)


# --- the registry --------------------------------------------------------------------------------------------------


def _find(client: MlflowClient, name: str, content: str) -> int | None:
    found = client.search_model_versions(f"name = '{name}' and tags.`{_CONTENT}` = '{content}'")
    return max((int(version.version) for version in found), default=None)


def _log(config: Config, tracker: Tracker, place: Location, bundle: Bundle, content: str) -> int:
    with tempfile.TemporaryDirectory() as folder, _as_current(tracker):
        logged = mlflow.pyfunc.log_model(
            name="quality-model",
            python_model=str(packaging.PROGRAM),
            artifacts=packaging.stage(Path(folder), place, bundle),
            code_paths=[str(packaging.copy_package(Path(folder)))],
            pip_requirements=packaging.requirements(),
            signature=packaging.signature(),
            input_example=packaging.example(),
            model_config=packaging.model_config(config),
            registered_model_name=config.register.name,
            tags={_CONTENT: content},
            await_registration_for=None,
        )
    version = int(logged.registered_model_version)
    tracker.client.set_model_version_tag(config.register.name, str(version), _CONTENT, content)
    return version


def _version_of(client: MlflowClient, match: re.Match[str], uri: str) -> Any:
    name = match["name"]
    try:
        model = client.get_registered_model(name)
        if match["version"]:
            return client.get_model_version(name, match["version"])
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        what = f"version {match['version']} of model '{name}'" if match["version"] else f"model '{name}'"
        raise InputError(
            f"MLflow at {uri} has no {what}; register one with grmp register, or give a bundle's folder"
        ) from error
    if match["alias"] not in model.aliases:
        known = ", ".join(f"{alias} (version {v})" for alias, v in sorted(model.aliases.items())) or "none"
        raise InputError(f"model '{name}' in MLflow at {uri} has no alias '{match['alias']}'; it has: {known}")
    return client.get_model_version(name, model.aliases[match["alias"]])


def _download(config: Config, tracker: Tracker, name: str, found: Any) -> Location:
    output = locate(config.output)
    made = hashlib.sha256(f"{tracker.uri} {found.creation_timestamp}".encode()).hexdigest()[:8]
    root = Path(output.path, "models") if output.is_local else _folder_of_this_process()
    folder = root / f"{name}-{found.version}-{made}"
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as fresh, _as_current(tracker):
            source = f"models:/{name}/{found.version}/artifacts"
            got = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=fresh))
            got.rename(folder)
    _point_to_backbone(folder)
    return locate(folder / "bundle")


@cache
def _folder_of_this_process() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="grmp-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _point_to_backbone(folder: Path) -> None:
    """A bundle names the weights file of the machine that made it; here it lies beside the bundle."""
    description = locate(folder / "bundle" / DESCRIPTION)
    content = description.read_json()
    for file in folder.glob("backbone.*"):
        if content["backbone"]["checkpoint"] != str(file):
            content["backbone"]["checkpoint"] = str(file)
            description.write_json(content)


@contextmanager
def _as_current(tracker: Tracker) -> Iterator[None]:
    """MLflow's own functions use the process-wide store; it is put back afterwards."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID")
    before = {name: os.environ.get(name) for name in names}
    tracking = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    registry = None if mlflow.get_registry_uri() == mlflow.get_tracking_uri() else mlflow.get_registry_uri()
    mlflow.set_tracking_uri(tracker.uri)
    mlflow.set_registry_uri(tracker.uri)
    os.environ["MLFLOW_EXPERIMENT_ID"] = tracker.experiment_id
    try:
        yield
    finally:
        mlflow.set_tracking_uri(tracking)  # type: ignore[arg-type]
        mlflow.set_registry_uri(registry)  # type: ignore[arg-type]
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("register")
