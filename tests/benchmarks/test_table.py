"""The one table of all benchmarks: its rows are data, and a run of one benchmark gives them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BENCHMARKS
from tests.benchmarks.growth import draw
from tests.benchmarks.rows import Row, compared, interleaved, markdown

ROOT = Path(__file__).resolve().parents[2]


def test_ways_take_turns_and_the_median_counts():
    turns, ticks = [], iter([0, 1, 1, 11, 20, 22, 30, 90, 100, 103, 110, 121])
    ways = {name: lambda name=name: turns.append(name) for name in ("a", "b")}
    assert interleaved(ways, 3, lambda: next(ticks)) == {"a": 2, "b": 11}
    assert turns == ["a", "b"] * 4  # the first round warms up


def test_a_ratio_is_above_one_where_the_first_is_faster():
    row = compared({"fast": 1.0, "slow": 4.0}, "fast", "slow", whose="a peer")
    assert (row.ratio, row.seconds) == (4, 1)
    [_, _, line] = markdown([row, Row(what="x", against="x", ratio=1, whose="a curve's first point")]).splitlines()
    assert line == "| fast | slow | 4.00 |  | a peer |"
    model = Row(what="a", against="b", ratio=1, whose="constants", modelled=True, peak_mb=1234.5)
    assert markdown([model]).endswith("| a | b | 1.00 | 1,234 MB | modelled, not run: constants |")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_of_the_table_gives_rows(name):
    assert callable(importlib.import_module(f"tests.benchmarks.{BENCHMARKS[name]}").rows)


def test_a_quick_run_prints_and_writes_its_table(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--only", "distortions", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    rows = [Row(**row) for row in json.loads(file.read_text())["rows"]]
    assert done.stdout.startswith(markdown(rows))
    assert all(row.ratio > 0 and 10 < (row.peak_mb or 0) < 10_000 for row in rows)
    assert "stand-in" in rows[0].whose


def test_the_picture_has_measured_and_modelled_points(tmp_path):
    about = {"what": "a", "against": "b", "ratio": 1.0, "whose": "own"}
    points = [(1, 4.0, False), (2, 2.2, False), (1, 4.1, True), (4, 1.2, True)]
    rows = [Row(**about, curve="workers", amount=n, seconds=s, modelled=m) for n, s, m in points]
    rows += [Row(**about, curve="images", amount=n, seconds=n + 0.1) for n in (8, 16, 32)]
    file = tmp_path / "growth.png"
    draw(rows, file)
    assert file.read_bytes().startswith(b"\x89PNG")
