"""Tables on the terminal."""

from __future__ import annotations

from pipelines.runtime.console import table


def test_a_name_with_a_line_break_stays_on_its_line():
    lines = table([{"image": "a\nb ä.jpg", "quality": 0.5}, {"image": "c.jpg", "quality": None}]).splitlines()
    assert lines == ["image       quality", "a\\nb ä.jpg  0.500  ", "c.jpg              "]
