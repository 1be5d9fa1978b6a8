"""`grmp drift`: whether new images have scores, and distances from known images, as at registration."""

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
from grmp_core.model.bundle import DESCRIPTION, read_bundle
from grmp_core.model.scorer import likeness_of
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config
from pipelines.results.sweep_folder import TrialFolder
from pipelines.runtime.console import table
from pipelines.scoring.registered_models import REFERENCE_DISTANCES, REFERENCE_SCORES, registered_tags


@dataclass(frozen=True, kw_only=True)
class DriftCheck:
    """Result of `grmp drift`."""

    drift: Drift
    """Of the scores."""
    distances: Drift | None
    """Of the distances from the images that the model knows."""
    no_distances: str | None
    """Why they are not compared; null where they are."""
    without_score: int
    """Rows of the table that have an error in place of a score."""
    unlike: float | None
    """Share of the images that are unlike those that the model knows; null where the table does not say."""
    max_distance: float
    reference: str

    @property
    def drifted(self) -> list[str]:
        """The names of what has drifted."""
        measured = {"scores": self.drift, "distances": self.distances}
        return [name for name, one in measured.items() if one is not None and one.exceeds(self.max_distance)]

    @property
    def exit_code(self) -> int:
        """1 where the scores or the distances have drifted, for a schedule to stop at."""
        return int(bool(self.drifted))

    def as_json(self) -> dict[str, Any]:
        about = {"without_score": self.without_score, "unlike": self.unlike, "reference": self.reference}
        distances = None if self.distances is None else dataclasses.asdict(self.distances)
        measured = {**dataclasses.asdict(self.drift), "distances": distances, "no_distances": self.no_distances}
        return {"drifted": bool(self.drifted), **measured, **about}

    def as_text(self) -> str:
        about = {"without_score": self.without_score, "unlike": self.unlike}
        rows = [{"of": "quality", **dataclasses.asdict(self.drift), **about}]
        if self.distances is not None:
            rows.append({"of": "distance", **dataclasses.asdict(self.distances)})
        verdict = f"the {' and the '.join(self.drifted)} have drifted" if self.drifted else "no drift"
        measured = [f"distance {self.drift.distance:.3f} of the scores"]
        if self.distances is not None:
            measured.append(f"{self.distances.distance:.3f} of the distances from known images")
        numbers = f"{' and '.join(measured)} to those of {self.reference}; {self.max_distance:g} is allowed"
        lines = [table(rows), f"{verdict}: {numbers}"]
        return "\n".join([*lines, *([] if self.no_distances is None else [self.no_distances])])


@dataclass(frozen=True, kw_only=True)
class _Reference:
    quality_M: np.ndarray
    distance_K: np.ndarray | None
    """Null where it is not known."""
    where: str


def check_drift(config: Config) -> DriftCheck:
    """Compare `drift.scores` with `drift.reference`, or with what was noted when `score.model` was registered: the
    scores of its held-out images, and the distances of its labelled images from each other.

    InputError for a table without scores or with text among them, and where there is nothing to compare with.
    """
    if config.drift.scores is None:
        raise InputError("nothing to compare: name a table that grmp score wrote (grmp drift scores.parquet)")
    scores = _read(config.drift.scores)
    good = scores[scores["error"].isna()] if "error" in scores else scores
    reference = _reference(config)
    distances, no_distances = _compared(_distances(good, config.drift.scores), reference, config.drift.scores)
    return DriftCheck(
        drift=drift_of(_qualities(good, config.drift.scores), reference.quality_M),
        distances=distances,
        no_distances=no_distances,
        without_score=len(scores) - len(good),
        unlike=_share_unlike(good, config.drift.scores),
        max_distance=config.drift.max_distance,
        reference=reference.where,
    )


def _compared(distance_N: np.ndarray | None, reference: _Reference, where: str) -> tuple[Drift | None, str | None]:
    """Drift of the distances, or why there is none."""
    if reference.distance_K is None:
        return None, (
            f"distances are not compared: {reference.where} come without any (from an earlier version, or a model that "
            "marks no image as unlike)"
        )
    if distance_N is None:
        return None, f"distances are not compared: {where} has none; score the images again with this version"
    if min(len(distance_N), len(reference.distance_K)) < 2:
        return None, "distances are not compared: two of each are needed"
    return drift_of(distance_N, reference.distance_K), None


def _reference(config: Config) -> _Reference:
    if config.drift.reference is not None:
        read = _read(config.drift.reference)
        quality = _qualities(read, config.drift.reference)
        distance = _distances(read, config.drift.reference)
        return _Reference(quality_M=quality, distance_K=distance, where=config.drift.reference)
    model = config.score.model or f"models:/{config.register.name}@champion"
    if model.startswith("models:"):
        name, tags = registered_tags(model, config)
        scores, distances = (_noted(tags.get(tag)) for tag in (REFERENCE_SCORES, REFERENCE_DISTANCES))
        if scores is not None:
            return _Reference(quality_M=scores, distance_K=distances, where=f"the held-out images of {name}")
    else:
        held_out = TrialFolder(locate(model).parent).read_predictions()
        if held_out is not None:
            quality = held_out["quality"].to_numpy(float)
            distances = _labelled_distances(locate(model))
            return _Reference(quality_M=quality, distance_K=distances, where=f"the held-out images of {model}")
    raise InputError(f"model {model} has no scores of held-out images to compare with; set drift.reference to a table")


def _noted(tag: str | None) -> np.ndarray | None:
    return None if tag is None else np.array(json.loads(tag), float)


def _labelled_distances(folder: Location) -> np.ndarray | None:
    """Of a bundle's own labelled images; null where there is none, or it keeps no looks of them."""
    if not (folder / DESCRIPTION).exists():
        return None
    bundle = read_bundle(folder)
    likeness = None if bundle.evidence is None else likeness_of(bundle, bundle.evidence)
    return None if likeness is None else likeness.labelled_distances


def _distances(scores: pd.DataFrame, where: str) -> np.ndarray | None:
    known = _numbers(scores, "distance", where) if "distance" in scores else np.empty(0)
    return known if len(known) else None


def _share_unlike(scores: pd.DataFrame, where: str) -> float | None:
    """InputError for a cell that is neither true nor false."""
    if "unlike" not in scores:
        return None
    cells = scores["unlike"].dropna().astype(str)  # beside text, a CSV's flags are text, too
    for cell in cells[~cells.isin(["True", "False"])]:
        raise InputError(f"{where}: column unlike has '{cell}', which is neither True nor False")
    return float((cells == "True").mean()) if len(cells) else None


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
    return _numbers(scores, "quality", where)


def _numbers(scores: pd.DataFrame, column: str, where: str) -> np.ndarray:
    """Of a column, without its empty cells. InputError for a cell of text."""
    cells = scores[column].dropna()
    numbers = pd.to_numeric(cells, errors="coerce")
    for cell in cells[numbers.isna()]:
        raise InputError(f"{where}: column {column} has '{cell}', which is no number")
    return numbers.to_numpy(float)
