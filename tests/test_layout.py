"""Imports run down: from commands to rooms, between rooms without circles, and from `pipelines` to `grmp_core` only."""

from __future__ import annotations

import ast
import graphlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("grmp_core", "pipelines")


def modules() -> dict[str, Path]:
    """Name -> file of every module of the two packages."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imports_of(file: Path) -> Iterator[str]:
    """Names that a file imports, also inside functions and for type checks only."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_by(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the two packages that a file imports."""
    for name in imports_of(file):
        if name.split(".")[0] in PACKAGES:
            yield name if name in known else name.rpartition(".")[0]


def room_of(module: str) -> str:
    """`pipelines.sweeping.grid` -> `pipelines.sweeping`; a module at the top of a package is a room of its own."""
    return ".".join(module.split(".")[:2])


def test_arrows_run_down_and_no_room_imports_a_command():
    known = modules()
    commands = {name for name, file in known.items() if file.parent == ROOT / "pipelines"} - {"pipelines"}
    for name, file in known.items():
        for target in imported_by(file, known):
            assert not (name.startswith("grmp_core") and target.startswith("pipelines")), f"{name} imports {target}"
            assert name in commands or target not in commands, f"{name} is no command but imports {target}"


def test_there_is_no_circle_between_rooms():
    known = modules()
    below: dict[str, set[str]] = defaultdict(set)
    for name, file in known.items():
        below[room_of(name)] |= {room_of(target) for target in imported_by(file, known)} - {room_of(name)}
    graphlib.TopologicalSorter(below).prepare()  # raises CycleError, which names the circle


def test_every_folder_of_code_is_a_package():
    for file in modules().values():
        assert (file.parent / "__init__.py").exists(), f"{file.parent} has no __init__.py and is left out of the wheel"


def test_the_core_imports_neither_ray_nor_mlflow():
    """Nowhere, also not inside a function; that it runs without them is tested with the registered model."""
    for name, file in modules().items():
        if name.startswith("grmp_core"):
            bad = {target.split(".")[0] for target in imports_of(file)} & {"ray", "mlflow"}
            assert not bad, f"{name} imports {bad}"


def test_all_json_is_written_by_one_function():
    """Python's own writes NaN, which is not JSON and which other programs refuse."""
    writers = {name for name, file in modules().items() if re.search(r"\bjson\.dumps?\(", file.read_text())}
    assert writers - {"pipelines.configuration.loading"} == {"grmp_core.strict_json"}  # loading hands it to pydantic
