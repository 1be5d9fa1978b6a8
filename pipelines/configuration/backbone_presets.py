"""Presets: the settings that suit one backbone, as data. Each YAML file of `presets/` is one, named by its file.

Its `backbones` are the names (as of backbone.name) that take it by themselves, its `settings` sections of the
configuration.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from grmp_core.model.settings import BackboneConfig
from pipelines.configuration.yaml_reading import read_yaml


@dataclass(frozen=True)
class Preset:
    """The settings that suit some backbones."""

    backbones: tuple[str, ...]
    settings: dict[str, Any]
    """Sections as `read_yaml` gives them."""


@functools.cache
def presets() -> dict[str, Preset]:
    """Name -> preset, of all that this package brings."""
    folder = resources.files("pipelines.configuration") / "presets"
    files = sorted(Path(str(file)) for file in folder.iterdir() if file.name.endswith(".yaml"))
    contents = {file.stem: read_yaml(file) for file in files}
    return {name: Preset(tuple(content["backbones"]), content["settings"]) for name, content in contents.items()}


def resolve_preset(data: Mapping[str, Any], say: Callable[[str], None]) -> tuple[Any, dict[str, Any]]:
    """Name and settings of the preset that a configuration's data ask for: by name, or for `auto` by its backbone.

    `none` without settings where there is none, and `say` gets a line for such a backbone. A name that does not exist
    comes back as it is, for the type check to refuse.
    """
    name = data.get("preset", "auto")
    if name != "auto":
        exists = isinstance(name, str) and name in presets()
        return name, presets()[name].settings if exists else {}
    section = data.get("backbone")
    backbone = str((section if isinstance(section, Mapping) else {}).get("name", BackboneConfig.name))
    for name, preset in presets().items():
        if backbone.replace("/", "-").lower() in map(str.lower, preset.backbones):
            return name, preset.settings
    say(
        f"configuration: the backbone {backbone} has no preset, so prompts, views, meta and adapt have their built-in "
        f"values; set meta.outer_lr, adapt.lr and adapt.epochs, or set preset to one of {', '.join(presets())}"
    )
    return "none", {}
