"""Thousands of damaged files: each gives an image or an ImageError, soon, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from grmp_core.imaging.decoding import read_image
from tests.grmp_core.imaging.fuzz_child import MAX_BYTES
from tests.grmp_core.imaging.mutations import case
from tests.grmp_core.imaging.originals import originals

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 1800

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as Linux does")


def test_all_originals_are_intact():
    for name, data in originals().items():
        assert read_image(data).shape[2] == 3, name


def test_cases_are_the_same_every_time_and_of_every_kind():
    cases = [case(number) for number in range(600)]
    assert [case(number) for number in (0, 599, 7)] == [cases[0], cases[599], cases[7]]
    assert len({tried.data for tried in cases}) > 590
    kinds = Counter(tried.name.split()[0] for tried in cases)
    assert {"JPEG", "PNG", "WebP", "AVIF", "TIFF", *originals()} <= set(kinds)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 2_000), pytest.param(2_000, 20_000, marks=pytest.mark.slow, id="many")]
)
def test_damaged_files_give_an_image_or_an_image_error(first, count, tmp_path):
    progress = tmp_path / "number"
    command = [sys.executable, "-W", "error", "-m", "tests.grmp_core.imaging.fuzz_child", str(first), str(count)]
    done = subprocess.run(
        [*command, str(progress)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"case {progress.read_text()} ended the process: {done.stderr[-2000:]}"
    found = json.loads(done.stdout)
    assert found["bad"] == []
    assert done.stderr == ""
    assert sum(found["outcomes"].values()) == count
    assert set(found["outcomes"]) == {"decoded", "the same", "refused"}
    assert min(found["outcomes"].values()) > count / 20
    assert found["peak_bytes"] < MAX_BYTES
    assert not found["torch"]
