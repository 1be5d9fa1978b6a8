"""The examples of `docs/examples`: the notebook runs to its end, and the script judges by its model."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from PIL import Image

import grmp_core
from grmp_core.procedural.scenes import reference

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_tunings", EXAMPLES / "compare_tunings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scene(name: str, before: float, now: float, probability: float) -> dict:
    return {"scene": name, "quality_A": now, "quality_B": before, "probability": probability}


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (-0.1, 0.1, "undecided")]
)
def test_the_script_decides_by_the_interval(script: ModuleType, low: float, high: float, verdict: str):
    found = {
        "low": low, "high": high, "difference": (low + high) / 2, "probability": 0.5, "coverage": 0.9, "unlike": 1,
        "left_out": ["only_new.jpg"], "scenes": [scene("gain", 0.4, 0.6, 0.9), scene("loss", 0.6, 0.4, 0.1)],
    }  # fmt: skip
    text = script.summary(found)
    assert script.verdict(found) == verdict
    assert f"new tuning: {verdict}" in text
    assert "look at loss: 0.60 before, 0.40 now" in text
    assert "gain" not in text
    assert "1 images are unlike" in text
    assert "left out: only_new.jpg" in text


def test_the_notebook_is_valid_and_keeps_no_output():
    notebook = nbformat.read(EXAMPLES / "labels_to_champion.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.ray
@pytest.mark.slow
def test_the_notebook_makes_a_champion_that_the_script_compares_tunings_with(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(EXAMPLES / "labels_to_champion.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "example" / "run" / "sweep" / "report.html").exists()
    for folder, level in (("present", 2), ("new", 4)):
        (tmp_path / folder).mkdir()
        for i in range(6):
            blurred = grmp_core.distort(reference(i, 300, 400), "gaussian_blur", level)
            Image.fromarray(blurred).save(tmp_path / folder / f"{i}.png")
    script = [sys.executable, str(EXAMPLES / "compare_tunings.py"), "present", "new", "--output", "example/run"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "new tuning: worse" in done.stdout
