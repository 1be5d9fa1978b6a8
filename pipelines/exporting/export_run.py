"""`grmp export`: a bundle or a registered model as ONNX, as one safetensors file, or as a folder for the hub."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from grmp_core.continual.gate import Gate
from grmp_core.errors import InputError
from grmp_core.export.onnx_scorer import OPSET, PARITY, CropQuality, largest_difference, onnx_bytes, preprocessing_of
from grmp_core.imaging.views import ViewConfig, scoring_views
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle
from grmp_core.model.whole_model import CONFIG, WEIGHTS, whole_description, whole_model_bytes
from grmp_core.procedural import scenes
from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.exporting.hub_card import hub_card
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.scoring.model_lookup import open_model

_COMPARED = 8  # pictures


@dataclass(frozen=True)
class Exported:
    """Result of `grmp export`."""

    to: str
    path: str
    """The file, or with `hub` the folder."""
    model: str
    bytes: int
    difference: float | None = None
    """Largest difference of a quality from the bundle's own, of drawn pictures; with `onnx` only."""

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def as_text(self) -> str:
        text = f"{self.model} as {self.to}: {self.path} ({self.bytes / 1e6:.1f} MB)"
        if self.difference is None:
            return text
        return f"{text}\nopset {OPSET}, qualities differ from the bundle's by {self.difference:.1e} at most"


def export_model(config: Config) -> Exported:
    """Write `export.model` below `<output>/export`.

    InputError when there is no such model, for one with a gate, and for ONNX without the extra `export`. RuntimeError
    when the qualities of the ONNX file differ from the bundle's by more than `PARITY`: nothing is written then.
    """
    started = time.time()
    name, bundle = open_model(config, config.export.model or f"models:/{config.register.name}@champion")
    if Gate.from_parameters(bundle.parameters) is not None:
        raise InputError(
            f"{name} weighs its models by a gate and cannot be exported: it scores with grmp score and grmp serve "
            "only; take a bundle of another continual.method"
        )
    folder, to = output_folder(config, "export"), config.export.to
    difference = None
    if to == "onnx":
        data, difference = _onnx(bundle, name)
        place = folder / "model.onnx"
        place.write_bytes(data)
    else:
        backbone = load_backbone(bundle.backbone)
        data = whole_model_bytes(bundle, backbone)
        place = folder / WEIGHTS if to == "safetensors" else folder / "hub"
        if to == "hub":
            _write_hub(place, name, bundle, backbone.image_size_px, data)
        else:
            place.write_bytes(data)
    counts = {"bytes": len(data)}
    inputs = {"model": name, "digest": bundle.digest}
    write_manifest(folder, "export", config, started, inputs=inputs, counts=counts, name=f"{to}.manifest.json")
    return Exported(to, place.uri, name, len(data), difference)


def _onnx(bundle: Bundle, name: str) -> tuple[bytes, float]:
    net = CropQuality(bundle, name)
    data = onnx_bytes(net, bundle)
    side_px = max(net.size_px, scenes.MIN_SIDE_PX)
    pictures = [scenes.reference(seed, side_px, side_px) for seed in range(_COMPARED)]
    crops = np.concatenate([scoring_views(one, ViewConfig(score_grid=1), net.size_px) for one in pictures])
    difference = largest_difference(data, net, crops)
    if not difference <= PARITY:
        raise RuntimeError(f"the ONNX model of {name} is off by {difference:.1e}, more than {PARITY:g}")
    return data, difference


def _write_hub(folder: Location, name: str, bundle: Bundle, size_px: int, data: bytes) -> None:
    preprocessing = preprocessing_of(bundle, size_px)
    about = {"library_name": "grmp-iqa", "model_type": "grmp-iqa", "preprocessing": preprocessing}
    (folder / WEIGHTS).write_bytes(data)
    (folder / CONFIG).write_json({**about, **whole_description(bundle)})
    (folder / "README.md").write_bytes(hub_card(name, bundle, preprocessing).encode())
