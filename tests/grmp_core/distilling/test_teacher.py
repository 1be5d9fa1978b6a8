"""Teachers that are plug-ins, and those that fail."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from grmp_core.distilling.teacher import BundleTeacher, TeacherError, plugin_of, plugin_version, scores_of
from grmp_core.errors import InputError
from grmp_core.model.bundle import load_predictor, read_bundle
from grmp_core.model.scorer import Scorer
from grmp_core.storage import locate
from tests.pipelines.distilling.plugins import install

PICTURES = [np.full((4, 4, 3), value, dtype=np.uint8) for value in (0, 255)]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path)
    yield tmp_path
    sys.modules.pop("brightness_teacher", None)


def test_an_installed_plugin_is_found_by_its_name_and_scores(installed):
    teacher = plugin_of("brightness")
    assert (teacher.name, teacher.licence) == ("Brightness", "MIT")
    assert scores_of(teacher, PICTURES) == [0, 255]
    assert plugin_version("brightness") == "1.0"
    assert plugin_of("nobody") is None
    assert plugin_version("nobody") == "unknown"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", r"teacher Nan gave the score nan"),
        ("fewer", r"teacher Fewer gave 1 scores for 2 pictures"),
        ("raises", r"teacher Raises failed \(ValueError: out of order\)"),
    ],
)
def test_a_teacher_that_fails_says_how_in_one_line(installed, name, message):
    with pytest.raises(TeacherError, match=message):
        scores_of(plugin_of(name), PICTURES)


@pytest.mark.parametrize(
    ("name", "message"), [("nameless", "is no callable with a name and a licence"), ("broken", "cannot be loaded")]
)
def test_what_is_no_teacher_is_refused(installed, name, message):
    with pytest.raises(InputError, match=message):
        plugin_of(name)


def test_a_bundle_scores_pictures_of_its_own_size_as_its_views(unadapted_folder):
    bundle = read_bundle(locate(unadapted_folder))
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    teacher = BundleTeacher(scorer=Scorer(bundle, "b", score_grid=1), name="b")
    predictor = load_predictor(bundle, "b")
    np.testing.assert_allclose(scores_of(teacher, list(views)), predictor(torch.from_numpy(views)).numpy(), rtol=1e-5)
