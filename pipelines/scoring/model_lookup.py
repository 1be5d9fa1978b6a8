"""A model by bundle folder or registry name, ready to score."""

from __future__ import annotations

from typing import NamedTuple

from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle, check_backbone, read_bundle, with_weights_at
from grmp_core.model.differentiable import ImageQuality, unadapted
from grmp_core.storage import Location, locate
from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.schema import Config

UNADAPTED = "backbone"
"""As a model's name: the backbone of the configuration as it is, by its class phrases alone."""


class ResolvedModel(NamedTuple):
    name: str
    """`models:/name/version`, or the address of the bundle's folder: what a record of its use says."""
    folder: Location
    """Folder of the bundle, for as long as this process lives."""


def resolve_model(uri: str, config: Config) -> ResolvedModel:
    """Find the bundle in a folder, or that of `models:/name@alias` or `models:/name/version`.

    A registered model is downloaded once, to `models/` in a local output, else to a temporary folder. InputError when
    the registry has no such model, with what it has.
    """
    if not uri.startswith("models:"):
        folder = locate(uri)
        return ResolvedModel(folder.uri, folder)
    from pipelines.scoring.registered_models import fetched_model  # brings MLflow

    return ResolvedModel(*fetched_model(uri, config))


def open_model(config: Config, uri: str | None = None) -> tuple[str, Bundle]:
    """Name and content of a model: `uri`, else `score.model`, else the registered champion.

    InputError when there is none.
    """
    named = uri or config.score.model
    if named == UNADAPTED:
        return f"backbone {config.backbone.name}, no label", unadapted(load_backbone(config.backbone.at_home()))
    model = resolve_model(named or f"models:/{config.register.name}@champion", config)
    bundle = with_weights_at(read_bundle(model.folder), config.backbone, model.name)
    check_backbone(bundle, load_backbone(bundle.backbone), model.name)
    return model.name, bundle


def load_model(
    uri: str, *, output: str = Config.output, tracking_uri: str | None = None, device: str = "cpu"
) -> ImageQuality:
    """A model of the registry as a torch module, for programs.

    Args:
        uri: `models:/name@alias`, `models:/name/version`, or a bundle's folder.
        output: the output of the runs that registered it. The model is downloaded into its folder `models`, and its
            SQLite file is the registry where no other is given.
        tracking_uri: address of MLflow; null: the environment's MLFLOW_TRACKING_URI, else that file.

    InputError when the registry has no such model, or the model's backbone cannot be had.
    """
    model = resolve_model(uri, Config(output=output, tracking=TrackingConfig(uri=tracking_uri)))
    return ImageQuality(read_bundle(model.folder), model.name).to(device)
