"""The package as a library: its names, the price of its import, and the page on it."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import grmp_core
from grmp_core.errors import InputError
from tests.grmp_core.imaging import pictures

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_import_loads_nothing_and_all_names_are_there():
    code = (
        "import sys, grmp_core, pipelines\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'mlflow'} & sys.modules.keys()), dir(grmp_core))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert all(f"'{name}'" in done.stdout for name in grmp_core.__all__)
    assert all(callable(getattr(grmp_core, name)) for name in grmp_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = grmp_core.nothing


def test_both_packages_say_that_they_are_typed():
    for package in ("grmp_core", "pipelines"):
        assert (resources.files(package) / "py.typed").is_file()


def test_a_distorted_picture_is_new_and_the_same_for_the_same_seed():
    photo = pictures.photo(40, 50)
    before = photo.copy()
    noisy = [grmp_core.distort(photo, "white_noise", level=2.5, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(photo, before)
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (noisy[0] != noisy[2]).any()
    assert noisy[0].shape == photo.shape
    worse = grmp_core.distort(photo, "white_noise", level=5)
    assert np.abs(worse.astype(int) - photo).mean() > np.abs(noisy[0].astype(int) - photo).mean()
    parts = grmp_core.distort(grmp_core.distort(photo, "darken"), "jpeg")
    np.testing.assert_array_equal(grmp_core.distort(photo, "darken-jpeg"), parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("jpg",), "did you mean jpeg"), (("jpeg", 0.5), "outside 1..5"), (("jpeg-jpeg2000",), "one of a group")],
)
def test_what_cannot_be_distorted_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        grmp_core.distort(pictures.photo(40, 50), *arguments)


def test_the_examples_of_the_page_run():
    pytest.importorskip("torchmetrics")
    done = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert done.failed == 0
    assert done.attempted >= 9
