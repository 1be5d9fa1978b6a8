"""The registered model as MLflow loads it: images in, one score a row out.

MLflow runs this file by itself (models-from-code), with a copy of grmp_core beside it. It must import nothing else of
this project, and no Ray.

Settings come as the model's configuration (`allow_local_paths`, `max_pixels`, `min_side_px`, `coverage`,
`unlike_share`). Where local paths are
allowed, the environment variable GRMP_IMAGE_ROOT of the serving process narrows them to one folder.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext

from grmp_core.errors import ImageError, InputError
from grmp_core.imaging.base64_images import check_no_url, from_base64
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.model.bundle import read_bundle
from grmp_core.model.scorer import Score, Scorer, ScoreTrust
from grmp_core.storage import locate

MAX_ENCODED_BYTES = 96 * 1024 * 1024
"""Longest base64 text of one image."""
_MAX_PATH = 4096


class ServedModel(PythonModel):
    """Input: a string column `image`, base64 of an encoded image file (a `data:image/…;base64,` prefix may stand
    before it), or a path where that is switched on. URLs are never fetched.

    Output, row by row: `quality` in [0, 1], 1 best; `mos_scale_score` on the target's own scale; `quality_low`,
    `quality_high`, `score_low` and `score_high`, the ends of the interval; `unlike`, whether the image is unlike those
    that the model knows; `distance`, how far it is from them; `error`; and of an ensemble `spread`, how far its members
    are apart. A row that cannot be scored has null scores and says why; the other rows are not affected.
    """

    def load_context(self, context: PythonModelContext) -> None:
        settings = context.model_config or {}
        bundle = read_bundle(locate(context.artifacts["bundle"]))
        if "backbone" in context.artifacts:
            backbone = dataclasses.replace(bundle.backbone, checkpoint=context.artifacts["backbone"])
            bundle = dataclasses.replace(bundle, backbone=backbone)
        names = {field.name for field in dataclasses.fields(ImageLimits)}
        limits = ImageLimits(**{name: value for name, value in settings.items() if name in names})
        self.allow_local_paths = settings.get("allow_local_paths") is True
        device = "cuda" if torch.cuda.is_available() else "cpu"
        trust = ScoreTrust(**{f.name: settings[f.name] for f in dataclasses.fields(ScoreTrust) if f.name in settings})
        self.scorer = Scorer(bundle, "of the registered model", limits=limits, device=device, trust=trust)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row out for each row of `model_input`, with its index. InputError without a column `image`."""
        if not isinstance(model_input, pd.DataFrame) or "image" not in model_input.columns:
            raise InputError("the input needs a column 'image': base64 of an encoded image in every row")
        scores = self.scorer.score(self._source(row) for row in model_input["image"])
        return _frame(scores, model_input.index)

    def _source(self, row: object) -> bytes | str | ImageError:
        """An encoded image, or the allowed path of one, or why there is neither."""
        try:
            return self._encoded(row)
        except ImageError as error:
            return error

    def _encoded(self, row: object) -> bytes | str:
        if not isinstance(row, str) or not row:
            empty = row is None or (isinstance(row, float) and math.isnan(row))  # pandas has NaN for a missing text
            raise ImageError(f"expected base64 text, got {'nothing' if empty else type(row).__name__}")
        check_no_url(row)
        if self.allow_local_paths and len(row) <= _MAX_PATH and os.path.isfile(row):
            root = os.environ.get("GRMP_IMAGE_ROOT")
            if root and not Path(row).resolve().is_relative_to(Path(root).resolve()):
                raise ImageError("the path is outside the folder that GRMP_IMAGE_ROOT allows")
            return row
        paths = " nor the path of a file" if self.allow_local_paths else " and local paths are switched off"
        return from_base64(row, MAX_ENCODED_BYTES, paths)


def _frame(scores: list[Score], index: pd.Index) -> pd.DataFrame:
    names = [field.name for field in dataclasses.fields(Score) if field.name not in ("notes", "spread")]
    if any(score.spread is not None for score in scores):
        names.append("spread")
    columns: dict[str, list[Any]] = {name: [getattr(score, name) for score in scores] for name in names}
    return pd.DataFrame({name: _column(values, index) for name, values in columns.items()})


def _column(values: list[Any], index: pd.Index) -> pd.Series:
    """Missing values as None: MLflow's server would write NaN, which is not JSON."""
    cells = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    plain = all(isinstance(value, float) for value in cells) and cells
    return pd.Series(cells, index=index, dtype="float64" if plain else "object")


mlflow.models.set_model(ServedModel())
