"""The description of a registered model: its kind, its origin, its measured quality, and how to call it."""

from __future__ import annotations

import math
from typing import Any

from grmp_core.model.bundle import Bundle
from grmp_core.model.scorer import untrusted_because
from pipelines.registry.rights import rights_lines

_LONG = 40
"""Items of a list that nobody wants to read here."""


def model_card(name: str, bundle: Bundle, allow_local_paths: bool, decision: str) -> str:
    """Markdown, for the description of a model version."""
    scale = bundle.score_range
    scores = "quality in [0, 1], 1 best"
    if scale is not None:
        direction = "higher" if scale.higher_is_better else "lower"
        scores += f"; mos_scale_score on {scale.mos_min:g} to {scale.mos_max:g}, {direction} is better"
    paths = "or the path of an image on the serving machine" if allow_local_paths else "local paths are switched off"
    lines = [
        f"# {name}",
        "",
        "No-reference image quality, adapted from CLIP to a few labelled images (GRMP-IQA, arXiv 2409.05381).",
        "",
        f"**Registry decision:** {decision}.",
        "",
        "## Use",
        "",
        f"* Input: a column `image`, base64 of an encoded image file ({paths}; URLs are never fetched).",
        f"* Output: {scores}; `error` says why a row has no score.",
        f"* {_trust(bundle)}",
        "* Scores rank images of the kind it was adapted to; measure it on labels before other use.",
        *_download_note(bundle),
        "",
        *card_sections(bundle),
    ]
    return "\n".join(lines)


def card_sections(bundle: Bundle) -> list[str]:
    """Lines of Markdown on what a model is measured by, where it comes from, and the rights in it."""
    return [
        "## Agreement with human scores",
        "",
        *_metrics(bundle.metrics),
        "",
        "## Origin",
        "",
        f"* backbone: {_backbone(bundle)}, weights sha256 {bundle.backbone_sha256[:12]}, {bundle.precision}",
        f"* views: {bundle.views.mode}, {bundle.views.score_grid} x {bundle.views.score_grid} in scoring",
        *(f"* {key}: {_plain(value)}" for key, value in sorted(bundle.provenance.items())),
        "",
        *rights_lines(bundle),
    ]


def _trust(bundle: Bundle) -> str:
    reason = untrusted_because(bundle)
    if reason:
        return f"Scores come without intervals: {reason}."
    count = len(bundle.evidence.predicted_N) if bundle.evidence else 0
    return (
        f"Intervals (`quality_low` to `quality_high`) from the errors of {count} held-out predictions; `unlike` marks "
        "images that are unlike those it knows."
    )


def _metrics(metrics: dict[str, float]) -> list[str]:
    measured = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    if not measured:
        return ["Not measured."]
    lines = ["| measure | value |", "|:--|--:|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in sorted(measured.items())]
    note = "On held-out test images of its split; names with `val` were measured inside the labelled budget."
    return [*lines, "", note]


def _backbone(bundle: Bundle) -> str:
    config = bundle.backbone
    if config.checkpoint is not None:
        return f"{config.name} from a weights file that is part of this version"
    return f"{config.name} '{config.pretrained}'" if config.pretrained else f"{config.name}, part of this version"


def _download_note(bundle: Bundle) -> list[str]:
    if bundle.backbone.pretrained is None or bundle.backbone.checkpoint is not None:
        return []
    return [f"* Loading downloads the weights of {_backbone(bundle)} once into open_clip's cache."]


def _plain(value: Any) -> str:
    if isinstance(value, list) and len(value) > _LONG:
        return f"{len(value)}, which the bundle lists"
    text = " ".join(str(value).split())
    return text if len(text) <= 400 else text[:400] + " …"
