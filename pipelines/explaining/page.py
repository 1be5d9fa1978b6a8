"""The page of an explanation."""

from __future__ import annotations

from typing import Any

from grmp_core.strict_json import json_text
from pipelines.rendering.document import Block, Facts, Folded, Image, Page, Section, Table, Text

_LONG = ("quality_cells", "undamaged_cells", "crops")


def build_page(name: str, model: str, facts: dict[str, Any], png: bytes) -> Page:
    """Sentences, picture and tables of one image, from its facts."""
    sentences = facts["sentences"]
    summary: list[Block] = [Text(sentences[0], lead=True), _headline(facts)]
    alt = "The image with the crop that costs most, and the maps of quality and of damage"
    caption = "The image, its quality, and the probability of no damage, by place. Crosses: the lowest places."
    reasons: list[Block] = [Text(sentence) for sentence in sentences[1:]]
    sections = [
        Section("Score", [*summary, Image(png, alt, caption)]),
        Section("Reasons", reasons),
        Section("Damage", [_types(facts), _families(facts)]),
        Section("Measurements", [_measurements(facts)]),
    ]
    if facts["undone"]:
        sections.append(Section("Were it undone (estimates)", [_undone(facts)]))
    short = facts | {"map": {k: v for k, v in facts["map"].items() if k not in _LONG}}
    sections.append(Section("All facts", [Folded("JSON without crops and cells", json_text(short, indent=2))]))
    return Page(f"Why this score: {name}", f"Model {model}", sections)


def _headline(facts: dict[str, Any]) -> Facts:
    lowest, kind, tool = facts["map"]["lowest"], facts["types"][0], facts["tool"]
    place = f"row {lowest['row_px']}, column {lowest['column_px']}"
    return Facts(
        (
            ("quality", _text(facts["quality"]), "0 worst, 1 best"),
            ("lowest place", _text(lowest["quality"]), place),
            ("no damage", _text(facts["undamaged"]), f"else {kind['words']}, {_text(kind['probability'])}"),
            ("to be trusted", _text(tool["value"]), tool["name"].replace("_", " ")),
        )
    )


def _types(facts: dict[str, Any]) -> Table:
    rows = tuple((k["words"], k["group"].replace("_", " and "), _text(k["probability"])) for k in facts["types"])
    return Table(("type", "family", "probability if damaged"), rows, text_columns=frozenset({0, 1}))


def _families(facts: dict[str, Any]) -> Table:
    groups = sorted(facts["groups"].items(), key=lambda group: -group[1])
    rows = tuple((name.replace("_", " and "), _text(probability)) for name, probability in groups)
    return Table(("family", "probability"), rows, text_columns=frozenset({0}))


def _measurements(facts: dict[str, Any]) -> Table:
    rows = [
        (name.replace("_", " "), _text(fact["value"]), _text(fact["share_of_clean_below"]))
        for name, fact in facts["measurements"].items()
    ]
    rows += [(f"{name.replace('_', ' ')} (reference)", _text(value), "") for name, value in _reference(facts)]
    header = ("measurement", "value", f"share of {facts['clean_photos']} clean photos below")
    return Table(header, tuple(rows), text_columns=frozenset({0}))


def _reference(facts: dict[str, Any]) -> list[tuple[str, float]]:
    return list((facts["reference"] or {}).items())


def _undone(facts: dict[str, Any]) -> Table:
    rows = tuple(
        (one["group"].replace("_", " and "), one["remedy"], *(_text(one[k]) for k in ("before", "after", "gain")))
        for one in facts["undone"]
    )
    return Table(("family", "repair", "before", "after", "gain"), rows, text_columns=frozenset({0, 1}))


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.10g}"
