"""The answers of the scoring server, as its OpenAPI description has them."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, Field


class Row(BaseModel):
    """One image. Either `quality` or `error` is null."""

    name: str = Field(description="file name of a multipart part, position in a JSON list, or `body`")
    quality: float | None = Field(description="in [0, 1], 1 best")
    mos_scale_score: float | None = Field(description="on the scale of the human scores that the model was adapted to")
    quality_low: float | None = Field(description="lower end of the interval of `quality`; null where none is known")
    quality_high: float | None = Field(description="its upper end")
    score_low: float | None = Field(description="lower end of the interval of `mos_scale_score`")
    score_high: float | None = Field(description="its upper end")
    unlike: bool | None = Field(description="whether the image is unlike those that the model knows; null: not known")
    distance: float | None = Field(
        description="from the images that the model knows, 0 at their middle, independent of `score.unlike_share`; "
        "null where `unlike` is"
    )
    spread: float | None = Field(description="of an ensemble, how far its members are apart; null for a single model")
    model: str | None = Field(description="version of the model that scored it")
    notes: list[str] = Field(description="doubts about the pixels, such as a colour profile that could not be applied")
    error: str | None = Field(description="why there is no score")


class Answer(BaseModel):
    """The images of a request, in order."""

    images: list[Row]


class Health(BaseModel):
    status: str
    model: str | None = None


class Scale(BaseModel):
    """Scale of `mos_scale_score`."""

    min: float
    max: float
    higher_is_better: bool


class ModelFacts(BaseModel):
    """The model that scores at the moment."""

    model: str = Field(description="models:/name/version, or the address of a bundle's folder")
    quality: str = "in [0, 1], 1 best"
    mos_scale: Scale | None = Field(description="null for prompts that were never adapted to human scores")
    metrics: dict[str, float | None] = Field(description="agreement with human scores, as measured when it was made")
    backbone: str
    views: dict[str, Any] = Field(description="crops of an image whose quality is averaged")
    precision: str
    digest: str = Field(description="SHA-256 of weights, prompts and learned tensors")
    origin: dict[str, Any] = Field(description="how it was made; long lists are left out")


def row_without_score(name: str, reason: str) -> dict[str, Any]:
    """A Row as plain JSON types."""
    return {**dict.fromkeys(Row.model_fields), "name": name, "notes": [], "error": reason}


def kind_of_reason(reason: str) -> str:
    """The part of a reason that many images share: up to its first number, colon or bracket."""
    return re.split(r"[:;(0-9]", reason, maxsplit=1)[0].strip()[:40] or "other"
