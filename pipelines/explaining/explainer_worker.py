"""Explanations of images, one by one, in this process or in a Ray Data worker; each writes its own files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from ray import ObjectRef

from grmp_core.errors import ImageError, InputError
from grmp_core.explain.damage_types import TypeDetector
from grmp_core.explain.explanation import Explainer
from grmp_core.explain.place_damage import detector_of
from grmp_core.identity import digest_of
from grmp_core.imaging.decoding import DecodedImage, decode_image, picture_of
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import Source
from grmp_core.storage import locate
from grmp_core.strict_json import json_text
from pipelines.configuration.schema import Config
from pipelines.explaining.page import build_page
from pipelines.explaining.pictures import picture_of as map_picture
from pipelines.rendering.document import to_html
from pipelines.runtime.computing import prepare_to_compute
from pipelines.scoring.cluster_rows import with_weights_here
from pipelines.scoring.configured_scorer import configured_scorer
from pipelines.scoring.image_tables import ImageInput, ImageReader

ROWS = pa.schema(
    {
        "image_path": pa.string(),
        "quality": pa.float64(),
        "lowest": pa.float64(),
        "lowest_row_px": pa.int64(),
        "lowest_column_px": pa.int64(),
        "undamaged": pa.float64(),
        "damage": pa.string(),
        "probability": pa.float64(),
        "trusted": pa.string(),
        "trusted_value": pa.float64(),
        "files": pa.string(),
        "error": pa.string(),
    }
)
"""A row an image; `damage` and its probability are for the case that there is damage, `files` is the path of its files
without their ending. All but the first and the last are null where there is an error."""
KEYED_ROWS = ROWS.append(pa.field("key", pa.string()))
"""A row of it from a worker, with `ImageInput.key`: rows of a table may call their images by the same name."""


class ExplainerWorker:
    """A model that explains images and writes JSON, PNG and HTML of each into `<output>/explain`."""

    def __init__(self, config: Config, bundle: Bundle, where: str, weights: Sequence[ObjectRef[bytes]] = ()) -> None:
        """weights: content of the backbone's own file, where it has one, for nodes that do not see it."""
        prepare_to_compute()
        bundle = with_weights_here(bundle, list(weights))
        scorer = configured_scorer(config.score, bundle, where, config.images)
        detector = TypeDetector(load_backbone(bundle.backbone))
        places = detector_of(bundle.backbone, detector.backbone.weights_sha256)
        settings = config.explain
        self.explainer = Explainer(scorer, detector, places, crops=settings.crops, reasons=settings.reasons)
        self.limits, self.where, self.reference = scorer.limits, where, settings.reference
        self.folder = locate(config.output) / "explain"
        self.reader = ImageReader()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Inputs -> KEYED_ROWS."""
        images = [ImageInput(**row) for row in rows.to_pylist()]
        return pa.Table.from_pylist([self.row(image)[0] | {"key": image.key} for image in images], schema=KEYED_ROWS)

    def row(self, image: ImageInput) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """A row of ROWS and the facts; null where there are none. A bad image costs its own row only."""
        try:
            facts = self._explain(image)
        except InputError as error:
            reason = error.reason if isinstance(error, ImageError) else " ".join(str(error).split())
            return dict.fromkeys(ROWS.names) | {"image_path": image.name, "error": reason}, None
        lowest, kind, tool = facts["map"]["lowest"], facts["types"][0], facts["tool"]
        return {
            "image_path": image.name,
            "quality": facts["quality"],
            "lowest": lowest["quality"],
            "lowest_row_px": lowest["row_px"],
            "lowest_column_px": lowest["column_px"],
            "undamaged": facts["undamaged"],
            "damage": kind["name"],
            "probability": kind["probability"],
            "trusted": tool["name"],
            "trusted_value": tool["value"],
            "files": (self.folder / name_of(image)).uri,
            "error": None,
        }, facts

    def _explain(self, image: ImageInput) -> dict[str, Any]:
        pixels = self._decoded(self.reader.read(image))
        reference = None if self.reference is None else self._decoded(picture_of(self._reference_of(image)))
        found = self.explainer.explain(pixels, reference)
        facts = {"image": image.name, "model": self.where} | found.facts
        png = map_picture(pixels, found.quality_map)
        files = {
            ".json": json_text(facts, indent=1).encode(),
            ".png": png,
            ".html": to_html(build_page(PurePosixPath(image.name).name, self.where, facts, png)).encode(),
        }
        for ending, content in files.items():
            (self.folder / f"{name_of(image)}{ending}").write_bytes(content)
        return facts

    def _decoded(self, source: Source) -> DecodedImage:
        if isinstance(source, ImageError):
            raise source
        return decode_image(source, self.limits)  # type: ignore[arg-type]  # the reader gives no pixels

    def _reference_of(self, image: ImageInput) -> str:
        """The reference itself, or the file of the image's name in a folder of references."""
        place = locate(self.reference or "")
        return (place / PurePosixPath(image.name).name).uri if place.is_folder() else place.uri


def name_of(image: ImageInput) -> str:
    """Name of an image's files: its own, and enough of a digest to tell it from others of that name."""
    return f"{PurePosixPath(image.name).stem}-{digest_of(*dataclasses.astuple(image))[:6]}"
