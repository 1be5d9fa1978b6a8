"""A trial of a sweep's grid and a setting of its search: what is set in them, and what they measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from grmp_core.identity import digest_of

_LONGEST_NAME = 255  # bytes of a name, by the common file systems
_KEPT_OF_NAME = 133  # bytes; with the digest a name is 150 long

Settings = Mapping[str, Any]
"""Values by dotted key of the configuration, such as {"adapt.lr": 0.03}."""


METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")
"""Of `grmp_core.evaluation.metrics.Scores`, on test images."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One adaptation of the grid."""

    strength: float
    """lambda, 0 or more."""
    shots: int
    """Labelled images."""
    budget: int
    """Names the trials that belong together: the shots, or where a ratio asks for them and they differ between splits,
    their median."""
    data_ratio: float
    """Shots / images of the training part, in (0, 1]."""
    split_seed: int
    settings: Settings = field(default_factory=dict)
    """Further keys of the configuration, as a search has settled them."""

    @property
    def name(self) -> str:
        """Also the trial's folder."""
        return f"lambda={self.strength:g}-shots={self.shots}-seed={self.split_seed}"

    def as_row(self) -> dict[str, Any]:
        return {
            "trial": self.name,
            "lambda": self.strength,
            "data_ratio": self.data_ratio,
            "shots": self.shots,
            "budget": self.budget,
            "split_seed": self.split_seed,
            **self.settings,
        }


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Measurements of a trial; NaN, 0 and null where it has not finished."""

    val_srcc: float = math.nan
    """On held-out labelled images, NaN where it is not defined."""
    srcc: float = math.nan
    plcc: float = math.nan
    plcc_logistic: float = math.nan
    krcc: float = math.nan
    rmse: float = math.nan
    """On the split's test images, in units of the human scores."""
    logistic_converged: bool = False
    epochs: int = 0
    seconds: float = math.nan
    bundle: str | None = None
    """URI of the adapted model's folder."""
    error: str | None = None
    """Null for a trial that finished."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> TrialResult:
        """From a row that may hold more, and null for NaN."""
        return cls(**_given(row, cls))


@dataclass(frozen=True, kw_only=True)
class SettingResult:
    """Measurements of one setting of a search, on the labels of one trial."""

    settings: Settings
    shots: int
    split_seed: int
    val_srcc: float = math.nan
    epochs: int = 0
    """After which validation SRCC was best."""
    seconds: float = math.nan
    stopped: bool = False
    """Before its last epoch, by the search's scheduler."""
    error: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> SettingResult:
        """From a row as `as_row` gives it, with null for NaN."""
        return cls(settings={key: value for key, value in row.items() if "." in key}, **_given(row, cls))

    @property
    def name(self) -> str:
        return setting_name(self.settings)

    @property
    def eligible(self) -> bool:
        """Whether it can win."""
        return not self.stopped and self.error is None and math.isfinite(self.val_srcc)

    def as_row(self) -> dict[str, Any]:
        row = asdict(self)
        settings = row.pop("settings")
        return {"trial": self.name, **settings, **row}


def _given(row: Mapping[str, Any], cls: type) -> dict[str, Any]:
    return {f.name: row[f.name] for f in fields(cls) if row.get(f.name) is not None}


def setting_name(settings: Settings) -> str:
    """Name and folder of a searched setting; with all digits, so that no two settings share it."""
    return folder_name(",".join(f"{key}={value}" for key, value in sorted(settings.items())))


def folder_name(text: str) -> str:
    """The text itself where file systems take it as a name, else its beginning with a digest of all of it."""
    name = text.encode()
    if len(name) <= _LONGEST_NAME:
        return text
    return f"{name[:_KEPT_OF_NAME].decode(errors='ignore')}-{digest_of(text)[:16]}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The model that a sweep chose by validation."""

    strength: float
    """lambda"""
    settings: Settings | None
    """Of the search that won; null where only the grid was run."""
    shots: int
    trial: str
    bundle: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        content["lambda"] = content.pop("strength")
        if self.settings is None:
            del content["settings"]
        return content

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Choice:
        """The choice that `as_json` gave; KeyError where a part of it is missing."""
        names = ("shots", "trial", "bundle", "reason")
        parts = {name: content[name] for name in names}
        return cls(strength=float(content["lambda"]), settings=content.get("settings"), **parts)
