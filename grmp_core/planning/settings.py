"""Rules of the planner and their defaults, apart from its code, so that a configuration reads them without NumPy."""

from __future__ import annotations

from typing import Literal, get_args

Rule = Literal["random", "coverage", "spread", "disagreement", "combined"]
RULES: tuple[Rule, ...] = get_args(Rule)
DEFAULT_RULE: Rule = "combined"
"""Chosen on held-out photos (docs/rating.md)."""
ENOUGH_GAIN = 0.01
"""Labels are enough where the upper end of the expected gain in SRCC is below."""
