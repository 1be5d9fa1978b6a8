"""Source distribution and wheel: complete, with a tag's version, and at work beside modules of the same names."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from PIL import Image

from grmp_core.procedural.scenes import reference

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("grmp_core", "pipelines", "cluster")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", "MANIFEST.in", "constraints.txt")
BUILD = "import setuptools.build_meta as backend, sys; getattr(backend, sys.argv[1])(sys.argv[2])"
TAG = "9.8.7"
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


def git(*arguments: str | Path, cwd: Path) -> str:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    settings = ("user.name=test", "user.email=test@example.org", "commit.gpgsign=false", "tag.gpgsign=false")
    return run("git", *(part for setting in settings for part in ("-c", setting)), *arguments, cwd=cwd)


def copy_of_the_source(target: Path, *left_out: str) -> Path:
    """A build leaves its traces beside the sources."""
    for name in (*PACKAGES, "docs", "tests/pipelines/configuration"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", *left_out))
    for name in FILES:
        shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tagged commit."""
    source = copy_of_the_source(tmp_path_factory.mktemp("source"))
    git("init", "--quiet", cwd=source)
    git("add", ".", cwd=source)
    git("commit", "--quiet", "--message", "all", cwd=source)
    git("tag", f"v{TAG}", cwd=source)
    target = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-c", BUILD, "build_sdist", target, cwd=source)
    [file] = target.glob("*.tar.gz")
    return file


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, where there is no git."""
    source, target = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("dist")
    shutil.unpack_archive(sdist, source, filter="data")
    [folder] = source.iterdir()
    run(sys.executable, "-c", BUILD, "build_wheel", target, cwd=folder)
    [file] = target.glob("*.whl")
    return file


@pytest.fixture
def clashing(tmp_path: Path) -> Path:
    """A user's folder with modules that have the names of this project's packages."""
    for name in ("pipelines", "cluster", "utils"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name} of the user was imported')")
    return tmp_path


def test_sdist_has_the_version_of_the_tag_and_what_its_readme_names(sdist: Path):
    assert sdist.name == f"grmp_iqa-{TAG}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*FILES, "docs/first-hour.md", "docs/pictures/report.png", "cluster/README.md"} <= names
    assert not [name for name in names if name.startswith("tests") or name.endswith((".pyc", ".gitignore"))]


@pytest.mark.parametrize("source", ["no git", "no tag", "no tag, shallow"])
def test_source_without_a_tag_builds_with_the_fallback_version(source: str, tmp_path: Path):
    folder = copy_of_the_source(tmp_path / "source", "*.safetensors")
    if source != "no git":
        git("init", "--quiet", cwd=folder)
        git("add", ".", cwd=folder)
        git("commit", "--quiet", "--message", "all", cwd=folder)
    if source == "no tag, shallow":
        git("clone", "--quiet", "--depth=1", folder.as_uri(), tmp_path / "clone", cwd=tmp_path)
        folder = tmp_path / "clone"
    (tmp_path / "made").mkdir()
    run(sys.executable, "-c", BUILD, "prepare_metadata_for_build_wheel", tmp_path / "made", cwd=folder)
    [file] = (tmp_path / "made").glob("*.dist-info/METADATA")
    version = message_from_bytes(file.read_bytes())["Version"]
    fallback = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools_scm"]["fallback_version"]
    if source == "no git":
        assert version == fallback
    else:
        commit = git("rev-parse", "--short=7", "HEAD", cwd=folder).strip()
        assert version.startswith(f"{fallback.rstrip('0')}1+g{commit}")


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
    assert about["Version"] == TAG
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Description-Content-Type"] == "text/markdown"
    description = about.get_payload()
    assert description.startswith("# grmp-iqa\n")
    assert "make demo" in description  # the parts for the repository ended where they should
    assert not re.findall(r"<!--|!\[|\]\((?!https?://)|```mermaid", description)


def test_grmp_runs_beside_modules_of_the_same_names_on_the_search_path(wheel: Path, clashing: Path, tmp_path: Path):
    shutil.unpack_archive(wheel, clashing / "installed", "zip")
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
