"""Models of the MLflow registry, fetched once."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from grmp_core.errors import InputError
from grmp_core.model.bundle import DESCRIPTION
from grmp_core.storage import Location, locate
from pipelines.configuration.models import MODEL_NAME
from pipelines.configuration.schema import Config
from pipelines.tracking.store_check import OUTAGE, reason
from pipelines.tracking.tracker import Tracker, open_tracking

REFERENCE_SCORES = "grmp.reference_scores"
"""Tag of a registered version: the qualities of its held-out images, a sorted JSON list."""
REFERENCE_DISTANCES = "grmp.reference_distances"
"""Tag of a registered version: `Likeness.labelled_distances`, a sorted JSON list."""
_MODEL_URI = re.compile(r"^models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))$")


def fetched_model(uri: str, config: Config) -> tuple[str, Location]:
    """`models:/name/version` and the folder of the bundle of a registered model: see `model_lookup.resolve_model`."""
    with _registered(uri, config) as (tracker, version):
        name = f"models:/{version.name}/{version.version}"
        return name, _download(config, tracker, version.name, version)


def registered_tags(uri: str, config: Config) -> tuple[str, dict[str, str]]:
    """`models:/name/version` and the tags of a registered model. InputError as `resolve_model`."""
    with _registered(uri, config) as (_, version):
        return f"models:/{version.name}/{version.version}", dict(version.tags)


@contextmanager
def _registered(uri: str, config: Config) -> Iterator[tuple[Tracker, Any]]:
    """The store and MLflow's record of a version; what is done with them ends in InputError when MLflow goes away."""
    match = _MODEL_URI.match(uri)
    if match is None or not MODEL_NAME.fullmatch(match["name"]):
        raise InputError(f"model '{uri}': write models:/name@alias or models:/name/version, or a bundle's folder")
    tracker = open_tracking(config, needed_for=f"model {uri} could not be fetched")
    database = tracker.address.database
    if database is not None and not database.exists():  # MLflow would make one
        raise _not_there(f"model '{match['name']}'", tracker.address.shown)
    try:
        yield tracker, _version_of(tracker.client, match, tracker.address.shown)
    except OUTAGE as error:
        raise InputError(
            f"model {uri} could not be fetched from MLflow at {tracker.address.shown} ({reason(error)}); "
            "start the server, correct tracking.uri, or give a bundle's folder"
        ) from error


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
        raise _not_there(what, uri) from error
    if match["alias"] not in model.aliases:
        aliases = ", ".join(f"{alias} (version {v})" for alias, v in sorted(model.aliases.items())) or "none"
        raise InputError(f"model '{name}' in MLflow at {uri} has no alias '{match['alias']}'; it has: {aliases}")
    return client.get_model_version(name, model.aliases[match["alias"]])


def _not_there(what: str, uri: str) -> InputError:
    return InputError(
        f"MLflow at {uri} has no {what}; register one with grmp register, give a bundle's folder, or score without "
        "labels by --model backbone"
    )


def _download(config: Config, tracker: Tracker, name: str, version: Any) -> Location:
    output = locate(config.output)
    made = hashlib.sha256(f"{tracker.uri} {version.creation_timestamp}".encode()).hexdigest()[:8]
    root = Path(output.path, "models") if output.is_local else _folder_of_this_process()
    folder = root / f"{name}-{version.version}-{made}"
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as fresh, as_current(tracker):
            source = f"models:/{name}/{version.version}/artifacts"
            got = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=fresh))
            try:
                got.rename(folder)
            except OSError:
                if not folder.exists():  # where it does, another process was faster
                    raise
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
def as_current(tracker: Tracker) -> Iterator[None]:
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
