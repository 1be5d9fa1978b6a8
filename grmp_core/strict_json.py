"""JSON text that every reader takes: no NaN, no infinities."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(content: object, **options: Any) -> str:
    """`json.dumps` with its `options`, as strict JSON: NaN and infinities, which JSON does not know, become null."""
    return json.dumps(_finite(content), allow_nan=False, **options)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
