"""The README.md of a hub folder: metadata that the Hugging Face Hub reads, and the model card."""

from __future__ import annotations

import math
from typing import Any

import yaml

from grmp_core.model.bundle import Bundle
from pipelines.registry.model_card import card_sections

_TASK = "image-quality-assessment"


def hub_card(name: str, bundle: Bundle, preprocessing: dict[str, Any]) -> str:
    """Front matter in YAML, with the measures as `model-index`, and Markdown behind it."""
    title = name.split("/")[1] if name.startswith("models:/") else "grmp-iqa"
    front = yaml.safe_dump(_metadata(title, bundle), sort_keys=False)
    lines = [
        f"---\n{front}---",
        f"# {title}",
        "",
        "No-reference image quality, adapted from CLIP to a few labelled images (GRMP-IQA, arXiv 2409.05381).",
        "",
        "## Use",
        "",
        "```python",
        "import grmp_core",
        "",
        'model = grmp_core.load("this-folder")  # float images (B, 3, H, W) in [0, 1] -> quality in [0, 1], 1 best',
        "```",
        "",
        "## Preprocessing",
        "",
        *(f"* {key}: {value}" for key, value in preprocessing.items()),
        "",
        *card_sections(bundle),
    ]
    return "\n".join(lines) + "\n"


def _metadata(title: str, bundle: Bundle) -> dict[str, Any]:
    measured = [
        {"type": metric, "name": metric, "value": round(float(value), 4)}
        for metric, value in sorted(bundle.metrics.items())
        if value is not None and math.isfinite(value)
    ]
    target = str(bundle.provenance.get("target", "unknown"))
    result = {
        "task": {"type": _TASK, "name": "No-reference image quality assessment"},
        "dataset": {"type": target, "name": target},
        "metrics": measured,
    }
    return {
        "library_name": "grmp-iqa",
        "tags": [_TASK, "clip", "few-shot"],
        "license": "other",
        "license_name": "see-rights",
        "model-index": [{"name": title, "results": [result] if measured else []}],
    }
