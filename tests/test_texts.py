"""Everything that the texts name exists: commands load, modules import, files and links are there."""

from __future__ import annotations

import argparse
import importlib.util
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.backbone_training.options import parse as options_of
from pipelines.cli import COMMANDS, parser_of
from pipelines.configuration.loading import load_config

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cluster/README.md", "grmp_core/assets/grmp-nano.md")
TEXTS += tuple(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^( *)```([\w{}-]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def code_of(text: str) -> Iterator[str]:
    """Lines of code blocks, continued lines joined, and the code in running text; no blocks of output or YAML."""
    for fence in FENCE.finditer(text):
        if not fence[2]:
            yield from re.sub(r"\\\n\s*", " ", fence[3]).splitlines()
    rest = FENCE.sub("", text)
    yield from re.sub(r"\\\n\s*", " ", "\n".join(re.findall(r"^ {6,}(.*)$", rest, re.MULTILINE))).splitlines()
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", rest))


def commands_of(text: str) -> Iterator[list[str]]:
    """(name, arguments …) of every `grmp NAME …` and `python -m pipelines.NAME …`, also behind `cluster.submit --`."""
    for line in code_of(text):
        match = re.search(r"(?:^|[\s/$])(?:grmp |python -m pipelines\.)([a-z][a-z_-]*)(\s.*)?$", line)
        if match and match[1] != "<command>":
            yield [match[1].replace("-", "_"), *shlex.split(match[2] or "", comments=True)]


def configurations_of(text: str) -> dict[str, str]:
    """File name -> the YAML block that follows its name."""
    return dict(re.findall(r"`(\w+\.yaml)`:\n\n```yaml\n(.*?)```", text, re.DOTALL))


def everything() -> list[tuple[str, list[str]]]:
    return [(name, command) for name in TEXTS for command in commands_of((ROOT / name).read_text())]


def test_commands_are_found_in_every_form():
    text = """
```
$ python -m cluster.submit --token-file t -- \\
      python -m pipelines.sweep --config a.yaml --set output=x   # a remark
grmp score new/ --set 'a=[1, 2]'
made 3 of 4
```
and `grmp
report`, `.venv/bin/grmp demo`, but not `grmp_core`.
"""
    assert list(commands_of(text)) == [
        ["sweep", "--config", "a.yaml", "--set", "output=x"],
        ["score", "new/", "--set", "a=[1, 2]"],
        ["report"],
        ["demo"],
    ]
    assert {name for name, _ in everything()} >= {"README.md", "cluster/README.md", "docs/results.md"}
    assert len(everything()) > 40


@pytest.mark.parametrize(("text", "command"), everything(), ids=lambda value: str(value)[:60])
def test_command_loads(text: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its arguments parse, and the configuration with its settings is a valid one."""
    name, *arguments = command
    assert name in COMMANDS, f"{text}: there is no command {name}"
    placeholders = {"COMMAND", "NAME"} & set(arguments)
    if "--help" in arguments or placeholders or not arguments:
        return
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ray_config.yaml").write_text((ROOT / "ray_config.yaml").read_text())
    for file, block in configurations_of((ROOT / text).read_text()).items():
        (tmp_path / file).write_text(block)
    if name == "train_backbone":
        assert options_of(arguments, "").command == arguments[0]
        return
    options = parser_of(name).parse_args(arguments)
    assert isinstance(options, argparse.Namespace)
    load_config(options.config, options.set)


@pytest.mark.parametrize("text", TEXTS)
def test_modules_targets_files_and_links_exist(text: str):
    content = (ROOT / text).read_text()
    for module in re.findall(r"python -m (\w+(?:\.\w+)*)", content):
        assert importlib.util.find_spec(module), f"{text}: there is no module {module}"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", content, re.MULTILINE):
        assert target in targets, f"{text}: the Makefile has no target {target}"
    for file in re.findall(r"`((?:grmp_core|pipelines|tests|cluster|docs)/[\w./-]*)`", content):
        assert (ROOT / file).exists(), f"{text}: there is no {file}"
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", content):
        assert (ROOT / text).parent.joinpath(link).exists(), f"{text}: the link to {link} is broken"


def test_map_of_the_code_names_every_folder():
    content = (ROOT / "docs" / "architecture.md").read_text()
    map_of_code = content.partition("## The map")[2].partition("## ")[0]
    for package in ("grmp_core", "pipelines"):
        folders = {file.parent.name for file in (ROOT / package).glob("*/__init__.py")}
        named = map_of_code.partition(f"{package}/\n")[2].partition("\n```")[0]
        assert folders <= set(re.findall(r"^  (\w+)/", named, re.MULTILINE)), f"{package}: the map lacks a folder"


def test_python_of_the_readme_runs():
    [code] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    assert names["quality"].shape == (2,)
    assert float(names["loss"]) == pytest.approx(1 - float(names["quality"].mean()), abs=1e-6)


def test_diagram_of_the_pages_is_that_of_the_readme():
    draw = runpy.run_path(str(ROOT / "docs" / "make_diagram.py"))["draw"]
    picture = draw((ROOT / "README.md").read_text())
    assert (ROOT / "docs" / "pictures" / "way.svg").read_text() == picture
    assert picture.count("<line") == picture.count("marker-end") == 7


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900
