"""Licences of all that a model was made of, and what they mean for commercial use."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import yaml

from grmp_core.model.bundle import Bundle
from grmp_core.model.nano_trunk import SIZES
from grmp_core.model.settings import EMBEDDED

_RATED_TABLES = ("kadid10k", "tid2013")
"""Their mean human scores are the labels of synthesized distortions."""
_UNKNOWN = {"licence": "unknown", "commercial": "unknown"}


@dataclass(frozen=True, kw_only=True)
class Right:
    """Licence of one thing that a model was made of."""

    kind: Literal["code", "weights", "data"]
    name: str
    licence: str
    """`unknown` where this package does not know it."""
    commercial: Literal["yes", "no", "unknown"]
    use: str
    """Its part in the model."""
    note: str = ""


def rights_of(bundle: Bundle) -> list[Right]:
    """Of the code, the start weights, and every data set that touched the model, in this order; each once a use."""
    backbone, table = bundle.backbone, rights_table()
    rights = [_right("code", "grmp-iqa", "code", table["code"]["grmp-iqa"])]
    if backbone.checkpoint is not None:
        rights.append(_right("weights", f"{backbone.name} from a file", "backbone", _UNKNOWN))
        used: list[tuple[str, str]] = [("unknown", "training of the backbone")]
    else:
        key = EMBEDDED if backbone.name in SIZES else str(backbone.pretrained)
        entry = table["weights"].get(key, _UNKNOWN)
        rights.append(_right("weights", f"{backbone.name} {backbone.pretrained or ''}".strip(), "backbone", entry))
        used = [(name, "training of the backbone") for name in entry.get("made_of", ["unknown"])]
    teacher = bundle.provenance.get("teacher")
    if teacher is not None:
        rights.append(_right("weights", teacher["name"], "teacher", {**_UNKNOWN, "licence": teacher["licence"]}))
    used += [(source, "pre-training of the prompts") for source in bundle.sources]
    if bundle.sources and not set(bundle.sources) <= set(_RATED_TABLES):
        used += [(name, "mean scores as labels in pre-training") for name in _RATED_TABLES]
    if bundle.kind == "model":
        targets = [one["dataset"] for one in bundle.provenance.get("stream", ())]
        targets = targets or [bundle.provenance.get("target", "unknown")]
        used += [(name, "labels of the adaptation") for name in dict.fromkeys(map(str, targets))]
    data = table["data"]
    return rights + [_right("data", data.get(n, {}).get("title", n), use, data.get(n, _UNKNOWN)) for n, use in used]


def verdict_of(rights: list[Right]) -> str:
    """A sentence on commercial use: cleared, not cleared, or unknown."""
    forbidden = _names(rights, "no")
    unknown = _names(rights, "unknown")
    if forbidden:
        also = f"; the terms of {unknown} are unknown" if unknown else ""
        return f"Commercial use is not cleared: {forbidden} may be used for other purposes only{also}."
    if unknown:
        return f"Commercial use is not settled: the terms of {unknown} are unknown; ask their owners."
    return "Commercial use is allowed under the conditions listed."


def rights_lines(bundle: Bundle) -> list[str]:
    """Lines of Markdown."""
    rights = rights_of(bundle)
    rows = [f"| {r.name} | {r.use} | {r.licence}{f'; {r.note}' if r.note else ''} | {r.commercial} |" for r in rights]
    head = ["| what | part in the model | licence | commercial use |", "|:--|:--|:--|:--|"]
    note = (
        "A table of facts as this package knows them, no legal advice; a licence of data may or may not bind weights."
    )
    return ["## Rights", "", *head, *rows, "", f"{verdict_of(rights)} {note}"]


@functools.cache
def rights_table() -> dict[str, Any]:
    """Content of rights.yaml."""
    return yaml.safe_load(resources.files("pipelines.registry").joinpath("rights.yaml").read_text())


def _right(kind: Literal["code", "weights", "data"], name: str, use: str, entry: dict[str, Any]) -> Right:
    return Right(
        kind=kind,
        name=name,
        licence=entry["licence"],
        commercial=entry["commercial"],
        use=use,
        note=entry.get("note", ""),
    )


def _names(rights: list[Right], commercial: str) -> str:
    return ", ".join(dict.fromkeys(right.name for right in rights if right.commercial == commercial))
