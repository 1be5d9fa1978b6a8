"""Type probabilities: temperature and calibration error against oracles, and the detector on a tiny backbone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from grmp_core.errors import InputError
from grmp_core.explain.damage_types import (
    UNDAMAGED,
    TypeCalibration,
    TypeDetector,
    expected_calibration_error,
    fit_calibration,
    read_calibration,
    write_calibration,
)
from grmp_core.model.features import image_features
from grmp_core.nano.sentences import TYPES
from grmp_core.procedural import scenes

NO_BIAS = dict.fromkeys((*TYPES, UNDAMAGED), 0.0)


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_temperature_and_biases_are_found_again(temperature: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3 * temperature, (8_000, 5))
    bias = np.array([-1.0, 0.5, 0.0, 1.0, -0.5])
    truth = np.array([rng.choice(5, p=p) for p in softmax(logits / temperature + bias, axis=1)])
    fitted, biases = fit_calibration(logits, truth, penalty=0)
    assert fitted == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(biases - biases.mean(), bias, atol=0.15)


def test_fit_is_a_minimum_of_the_penalized_loss():
    rng = np.random.default_rng(1)
    logits, truth = rng.normal(0, 2, (300, 4)), rng.integers(4, size=300)
    temperature, biases = fit_calibration(logits, truth, penalty=0.01)

    def loss(values: np.ndarray) -> float:
        logs = log_softmax(logits / np.exp(values[0]) + values[1:], axis=1)
        return float(-logs[np.arange(300), truth].mean() + 0.01 * (values[1:] ** 2).sum())

    np.testing.assert_allclose(approx_fprime(np.array([np.log(temperature), *biases]), loss), 0, atol=1e-4)


def test_calibration_error_is_that_of_torchmetrics():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (500, 4))
    truth = rng.integers(4, size=500)
    probability = softmax(logits, axis=1)
    right = probability.argmax(axis=1) == truth
    oracle = multiclass_calibration_error(
        torch.from_numpy(probability), torch.from_numpy(truth), num_classes=4, n_bins=15, norm="l1"
    )
    assert expected_calibration_error(probability.max(axis=1), right) == pytest.approx(float(oracle), abs=1e-6)


def test_probabilities_add_up_and_soften_with_the_temperature(make_backbone):
    backbone = make_backbone()
    image = scenes.reference(3, 64, 80)
    calibrations = [
        TypeCalibration(weights_sha256=backbone.weights_sha256, temperature=t, bias=NO_BIAS, photos=1)
        for t in (1.0, 10.0)
    ]
    sharp, soft = (TypeDetector(backbone, calibration).probabilities(image) for calibration in calibrations)
    for found in (sharp, soft):
        assert sum(kind.probability for kind in found) == pytest.approx(1)
        assert {kind.name for kind in found} == {*TYPES, UNDAMAGED}
        assert [kind.probability for kind in found] == sorted((kind.probability for kind in found), reverse=True)
    sharp_damage, soft_damage = ([kind for kind in found if kind.name != UNDAMAGED] for found in (sharp, soft))
    assert [kind.name for kind in sharp_damage] == [kind.name for kind in soft_damage]
    odds = [damage[0].probability / damage[-1].probability for damage in (sharp_damage, soft_damage)]
    assert odds[0] > odds[1] > 1


def test_undamaged_probability_of_a_crop_is_that_of_the_image(make_backbone):
    backbone = make_backbone()
    image = scenes.reference(3, 64, 80)[:32, :32]
    detector = TypeDetector(backbone)
    unit = image_features(backbone, [np.ascontiguousarray(image)[None]]).unit_NE
    found = {kind.name: kind.probability for kind in detector.probabilities(image)}
    assert np.exp(detector.log_undamaged(unit)[0]) == pytest.approx(found[UNDAMAGED], rel=1e-4)


def test_half_of_the_photos_are_taken_to_be_undamaged(make_backbone):
    backbone = make_backbone()
    calibration = TypeCalibration(weights_sha256=backbone.weights_sha256, temperature=1.0, bias=NO_BIAS, photos=1)
    alike = np.zeros((1, len(TYPES) + 1))
    found = np.exp(TypeDetector(backbone, calibration).log_probabilities(alike))[0]
    assert found[-1] == pytest.approx(0.5)
    np.testing.assert_allclose(found[:-1], 0.5 / len(TYPES))


def test_calibration_of_other_weights_is_refused_or_left_out(make_backbone, tmp_path):
    backbone = make_backbone()
    other = TypeCalibration(weights_sha256="of others", temperature=2.0, bias=NO_BIAS, photos=1)
    with pytest.raises(InputError, match="other weights"):
        TypeDetector(backbone, other)
    assert not TypeDetector(backbone).is_calibrated
    write_calibration(other, tmp_path / "calibration.json")
    assert read_calibration(tmp_path / "calibration.json") == other
    assert read_calibration(tmp_path / "none.json") is None
    own = dataclasses.replace(other, weights_sha256=backbone.weights_sha256)
    assert TypeDetector(backbone, own).is_calibrated
