"""Benchmarks are run by hand: at least everything that they import is there."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from tests import benchmarks


@pytest.mark.parametrize("name", sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__)))
def test_a_benchmark_can_be_imported(name):
    importlib.import_module(f"tests.benchmarks.{name}")
