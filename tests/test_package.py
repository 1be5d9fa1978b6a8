"""The wheel: complete, and at work where a user has modules of the same names."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from PIL import Image

from grmp_core.procedural.scenes import reference

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("grmp_core", "pipelines", "cluster")
BUILD = "import setuptools.build_meta as backend, sys; backend.build_wheel(sys.argv[1])"
GRMP = "import sys; from grmp_core.console_script import main; sys.exit(main())"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that has to succeed, with the given variables and no other PYTHONPATH."""
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**variables, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its traces beside the sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-c", BUILD, target, cwd=source)
    [file] = target.glob("*.whl")
    return file


@pytest.fixture
def clashing(tmp_path: Path) -> Path:
    """A user's folder with modules that have the names of this project's packages."""
    for name in ("pipelines", "cluster", "utils"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name} of the user was imported')")
    return tmp_path


def test_wheel_has_every_file_of_the_packages_and_the_licences(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    files = [file for package in ("grmp_core", "pipelines") for file in (ROOT / package).rglob("*")]
    files += (ROOT / "cluster").glob("*.py")
    expected = {str(file.relative_to(ROOT)) for file in files if file.is_file() and "__pycache__" not in file.parts}
    assert expected <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    [notes] = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    assert {f"{notes}/licenses/LICENSE", f"{notes}/licenses/NOTICE"} <= names
    about = message_from_bytes(archive.read(f"{notes}/METADATA"))
    assert about["Name"] == "grmp-iqa"
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Description-Content-Type"] == "text/markdown"


def test_grmp_runs_beside_modules_of_the_same_names_on_the_search_path(wheel: Path, clashing: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(clashing / "installed")
    Image.fromarray(reference(1, 160, 160)).save(clashing / "photo.png")
    path = os.pathsep.join([".", "installed"])
    grmp = (sys.executable, "-c", GRMP)
    assert run(*grmp, "--help", cwd=clashing, PYTHONPATH=path).startswith("usage: grmp COMMAND")
    assert "photo.png" in run(*grmp, "score", "photo.png", "--model", "backbone", cwd=clashing, PYTHONPATH=path)


@pytest.mark.ray
@pytest.mark.slow
def test_demo_of_the_installed_wheel_beside_modules_of_the_same_names(wheel: Path, clashing: Path):
    """A fresh environment, which sees the dependencies of this one, but not its copy of this project."""
    venv.create(clashing / "env", symlinks=True)
    python = clashing / "env" / "bin" / "python"
    own = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=clashing).strip())
    (own / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    run(sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--offline", "--python", python, wheel, cwd=clashing)
    place = run(python, "-P", "-c", "import grmp_core; print(grmp_core.__file__)", cwd=clashing)
    assert place.startswith(str(own))
    shown = run(own.parents[2] / "bin" / "grmp", "demo", cwd=clashing, PYTHONPATH=".")
    assert "@champion" in shown
