"""`grmp drift`: whether the scores of new images are distributed as those at registration."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.errors import InputError
from grmp_core.evaluation.drift import Drift, drift_of
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import TrialFolder
from pipelines.runtime.console import table
from pipelines.scoring.registered_models import REFERENCE_SCORES, registered_tags


@dataclass(frozen=True)
class DriftCheck:
    """Result of `grmp drift`."""

    drift: Drift
    without_score: int
    """Rows of the table that have an error in place of a score."""
    unlike: float | None
    """Share of the images that are unlike those that the model knows; null where the table does not say."""
    max_distance: float
    reference: str

    @property
    def has_drifted(self) -> bool:
        return self.drift.exceeds(self.max_distance)

    @property
    def exit_code(self) -> int:
        """1 where the scores have drifted, for a schedule to stop at."""
        return int(self.has_drifted)

    def as_json(self) -> dict[str, Any]:
        about = {"without_score": self.without_score, "unlike": self.unlike, "reference": self.reference}
        return {"drifted": self.has_drifted, **dataclasses.asdict(self.drift), **about}

    def as_text(self) -> str:
        row = dataclasses.asdict(self.drift) | {"without_score": self.without_score, "unlike": self.unlike}
        verdict = "the scores have drifted" if self.has_drifted else "no drift"
        numbers = f"distance {self.drift.distance:.3f} from {self.reference}, {self.max_distance:g} is allowed"
        return f"{table([row])}\n{verdict}: {numbers}"


def check_drift(config: Config) -> DriftCheck:
    """Compare `drift.scores` with `drift.reference`, or with the scores noted when `score.model` was registered.

    InputError for a table without scores, and where there is nothing to compare with.
    """
    if config.drift.scores is None:
        raise InputError("nothing to compare: name a table that grmp score wrote (grmp drift scores.parquet)")
    scores = _read(config.drift.scores)
    good = scores[scores["error"].isna()] if "error" in scores else scores
    reference, where = _reference(config)
    unlike = float(good["unlike"].mean()) if "unlike" in good and good["unlike"].notna().any() else None
    drift = drift_of(_qualities(good, config.drift.scores), reference)
    return DriftCheck(drift, len(scores) - len(good), unlike, config.drift.max_distance, where)


def _reference(config: Config) -> tuple[np.ndarray, str]:
    if config.drift.reference is not None:
        return _qualities(_read(config.drift.reference), config.drift.reference), config.drift.reference
    model = config.score.model or f"models:/{config.register.name}@champion"
    if model.startswith("models:"):
        name, tags = registered_tags(model, config)
        noted = json.loads(tags.get(REFERENCE_SCORES, "null"))
        if noted is not None:
            return np.array(noted, float), f"the held-out images of {name}"
    else:
        held_out = TrialFolder(locate(model).parent).read_predictions()
        if held_out is not None:
            return held_out["quality"].to_numpy(float), f"the held-out images of {model}"
    raise InputError(f"model {model} has no scores of held-out images to compare with; set drift.reference to a table")


def _read(path: str) -> pd.DataFrame:
    file = locate(path)
    if not file.exists():
        raise InputError(f"{path}: no such file")
    read = pd.read_csv if path.endswith(".csv") else pd.read_parquet
    try:
        return read(io.BytesIO(file.read_bytes()))
    except (ValueError, OSError) as error:  # pyarrow's and pandas' own are among them
        raise InputError(f"{path}: not a table as grmp score writes it ({type(error).__name__})") from error


def _qualities(scores: pd.DataFrame, where: str) -> np.ndarray:
    if "quality" not in scores:
        raise InputError(f"{where}: has no column quality; give a table that grmp score wrote")
    return scores["quality"].dropna().to_numpy(float)
