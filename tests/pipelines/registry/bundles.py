"""Bundles of a tiny backbone, with predictions beside them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import read_bundle
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import PromptConfig
from grmp_core.storage import locate
from pipelines.results.sweep_folder import TrialFolder

PROMPTS = PromptConfig(visual_tokens=2)
VIEWS = ViewConfig(score_grid=1)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def qualities(bundle: Path, paths: list[str]) -> np.ndarray:
    return np.array([score.quality for score in Scorer(read_bundle(locate(bundle)), "test").score(paths)])


def hold_out(bundle: Path, paths: list[str], mos: np.ndarray) -> np.ndarray:
    """Write the bundle's predictions beside it, as a sweep's trial does."""
    quality = qualities(bundle, paths)
    columns = {"image_path": paths, "mos": mos, "quality": quality, "mos_scale_score": 100 * quality}
    TrialFolder(locate(bundle.parent)).write_predictions(pd.DataFrame(columns))
    return quality
