"""The space of a search: keys of the configuration with bounds or values, checked before anything runs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from grmp_core.errors import InputError
from pipelines.configuration.loading import as_dict, with_settings
from pipelines.configuration.schema import Config

Space = Mapping[str, BaseDistribution]
"""Distributions by dotted key of the configuration."""
_EXAMPLE = "write {low: 0.01, high: 1, log: true} or {values: [10, 20]}"
_OPTIONS = {"low", "high", "log", "values"}


def read_space(config: Config) -> Space:
    """`sweep.space`, in its order. InputError for what cannot be searched, in one line."""
    adapt = as_dict(config)["adapt"]
    del adapt["trainable"]  # it decides about the tokens that all trials share
    searchable = _leaves(adapt, "adapt")
    space: dict[str, BaseDistribution] = {}
    for key, options in config.sweep.space.items():
        where = f"sweep.space: {key}"
        if key not in searchable:
            raise InputError(f"{where} {_not_searchable(str(key), config, searchable)}")
        if not isinstance(options, Mapping) or set(options) - _OPTIONS:
            raise InputError(f"{where} {options!r}: {_EXAMPLE}")
        values = _values(where, options) if "values" in options else _bounds(where, options, searchable[key])
        for value in values:
            try:
                with_settings(config, {key: value})
            except InputError as error:
                raise InputError(f"{where}: {error}") from error
        space[key] = _distribution(options, values)
    return space


def highest(distribution: BaseDistribution) -> int:
    """The largest number that a whole-numbered distribution gives."""
    if isinstance(distribution, CategoricalDistribution):
        return max(int(str(choice)) for choice in distribution.choices)
    return int(distribution.high)  # type: ignore[attr-defined]


def _leaves(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in section.items():
        key = f"{where}.{name}"
        leaves |= _leaves(value, key) if isinstance(value, Mapping) else {key: value}
    return leaves


def _not_searchable(key: str, config: Config, searchable: Mapping[str, Any]) -> str:
    everything = _leaves({name: part for name, part in as_dict(config).items() if isinstance(part, Mapping)}, "")
    if f".{key}" in everything:
        return f"cannot be searched, since all trials share what it decides; searchable are {', '.join(searchable)}"
    near = difflib.get_close_matches(key, searchable, n=1, cutoff=0.5)
    return f"is unknown; did you mean {near[0]}?" if near else f"is unknown; searchable are {', '.join(searchable)}"


def _values(where: str, options: Mapping[str, Any]) -> list[Any]:
    values = options["values"]
    if len(options) > 1 or not isinstance(values, (list, tuple)) or not values:
        raise InputError(f"{where} {dict(options)}: values are a list of at least one, and stand alone; {_EXAMPLE}")
    return list(values)


def _bounds(where: str, options: Mapping[str, Any], configured: Any) -> list[Any]:
    if not isinstance(configured, (int, float)) or isinstance(configured, bool):
        raise InputError(f"{where} is not a number, so it takes values, such as {{values: [{configured}]}}")
    bounds: list[Any] = [options.get("low"), options.get("high")]
    if not all(type(bound) in (int, float) and math.isfinite(bound) for bound in bounds):
        raise InputError(f"{where} {dict(options)}: low and high must be numbers; {_EXAMPLE}")
    low, high = map(float, bounds)
    log = options.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"{where}: log must be true or false, not {log!r}")
    if not low < high:
        raise InputError(f"{where}: low {low:g} must be below high {high:g}")
    if log and low <= 0:
        raise InputError(f"{where}: low {low:g} must be above 0 with log: true")
    if isinstance(configured, float):
        return [low, high]
    if low != int(low) or high != int(high):
        raise InputError(f"{where}: low {low:g} and high {high:g} must be whole numbers")
    return [int(low), int(high)]


def _distribution(options: Mapping[str, Any], values: list[Any]) -> BaseDistribution:
    if "values" in options:
        return CategoricalDistribution(values)
    low, high = values
    distribution = IntDistribution if isinstance(low, int) else FloatDistribution
    return distribution(low, high, log=options.get("log", False))
