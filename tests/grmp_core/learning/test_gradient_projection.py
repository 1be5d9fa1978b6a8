"""QGR against hand-worked 2-D cases."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays

from grmp_core.errors import InputError
from grmp_core.learning.gradient_projection import regularize
from grmp_core.learning.settings import QgrConfig


def vector(*values: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float64)}


@pytest.mark.parametrize(
    ("quality", "semantic", "strength", "expected", "angle_deg", "share"),
    [
        ((1.0, 1.0), (2.0, 0.0), 1.0, (0.0, 1.0), 45.0, 1.0),  # acute: the shared component is removed
        ((1.0, 1.0), (2.0, 0.0), 5.0, (-4.0, 1.0), 45.0, 1.0),  # the published lambda turns it to -4 times
        ((-1.0, 1.0), (2.0, 0.0), 5.0, (-1.0, 1.0), 135.0, 0.0),  # obtuse: unchanged
        ((0.0, 3.0), (2.0, 0.0), 5.0, (0.0, 3.0), 90.0, 0.0),  # orthogonal: unchanged
        ((3.0, 4.0), (0.0, 0.0), 5.0, (3.0, 4.0), math.nan, 0.0),  # no semantic gradient: unchanged
        ((0.0, 0.0), (1.0, 0.0), 5.0, (0.0, 0.0), math.nan, 0.0),
        ((1.0, 1.0), (2.0, 0.0), 0.0, (1.0, 1.0), 45.0, 0.0),  # lambda 0 changes nothing
    ],
)
def test_two_dimensional_cases(quality, semantic, strength, expected, angle_deg, share):
    result, report = regularize(vector(*quality), vector(*semantic), QgrConfig(strength=strength))
    assert result["w"].tolist() == pytest.approx(expected)
    assert report.angle_deg == pytest.approx(angle_deg, nan_ok=True)
    assert report.projected_share == share


@pytest.mark.parametrize(
    ("quality", "semantic", "strength", "expected", "share"),
    [
        ((-1.0, 1.0), (2.0, 0.0), 1.0, (0.0, 1.0), 1.0),  # obtuse: the conflicting component is removed
        ((-3.0, 1.0), (1.0, 1.0), 1.0, (-2.0, 2.0), 1.0),  # -2 / 2 times (1, 1) is taken away
        ((-1.0, 1.0), (2.0, 0.0), 0.5, (-0.5, 1.0), 1.0),
        ((1.0, 1.0), (2.0, 0.0), 1.0, (1.0, 1.0), 0.0),  # acute: unchanged
        ((0.0, 3.0), (2.0, 0.0), 1.0, (0.0, 3.0), 0.0),  # orthogonal: unchanged
        ((3.0, 4.0), (0.0, 0.0), 1.0, (3.0, 4.0), 0.0),  # no semantic gradient: unchanged
        ((-1.0, 1.0), (2.0, 0.0), 0.0, (-1.0, 1.0), 0.0),  # lambda 0 changes nothing
    ],
)
def test_prograds_rule_takes_away_the_conflict(quality, semantic, strength, expected, share):
    config = QgrConfig(strength=strength, rule="conflict")
    result, report = regularize(vector(*quality), vector(*semantic), config)
    assert result["w"].tolist() == pytest.approx(expected)
    assert report.projected_share == share


# Values of float32 gradients: their products are exact in float64, and their squares do not vanish there.
VECTORS = arrays("float64", 5, elements=st.floats(-10, 10, width=32, allow_subnormal=False))


@given(VECTORS, VECTORS)
def test_lambda_one_leaves_nothing_along_the_semantic_gradient(quality, semantic):
    g, s = torch.from_numpy(quality), torch.from_numpy(semantic)
    result, report = regularize({"w": g}, {"w": s}, QgrConfig(strength=1.0))
    if report.projected_share:
        assert float(result["w"] @ s) == pytest.approx(0.0, abs=1e-9 * float(g.norm() * s.norm()))
    else:
        assert torch.equal(result["w"], g)
        assert float(g @ s) <= 0 or float(s @ s) == 0


@given(VECTORS, VECTORS, st.floats(1e-3, 1e3))
def test_the_length_of_the_semantic_gradient_does_not_matter(quality, semantic, factor):
    g, s = torch.from_numpy(quality), torch.from_numpy(semantic)
    s = torch.where(s.abs() < 1e-3, 0.0, s)
    plain, _ = regularize({"w": g}, {"w": s}, QgrConfig(strength=5.0))
    scaled, _ = regularize({"w": g}, {"w": s * factor}, QgrConfig(strength=5.0))
    torch.testing.assert_close(plain["w"], scaled["w"], rtol=1e-9, atol=1e-9)


def test_scope_decides_over_one_tensor_or_all():
    quality = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([-1.0])}
    semantic = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([2.0])}
    each, report = regularize(quality, semantic, QgrConfig(strength=1.0, scope="tensor"))
    assert each["a"].tolist() == [0.0, 0.0]
    assert each["b"].tolist() == [-1.0]
    assert report.projected_share == 0.5
    together, report = regularize(quality, semantic, QgrConfig(strength=1.0, scope="global"))  # 1 - 2 < 0: untouched
    assert together["a"].tolist() == [1.0, 0.0]
    assert report.projected_share == 0.0
    both = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([-1.0])}  # 3 - 2 = 1 over 1 + 4: minus a fifth of g_s
    together, _ = regularize(both, semantic, QgrConfig(strength=1.0, scope="global"))
    assert together["a"].tolist() == pytest.approx([2.8, 0.0])
    assert together["b"].tolist() == pytest.approx([-1.4])


@given(VECTORS, VECTORS)
def test_every_gradient_is_changed_by_one_rule_at_most(quality, semantic):
    g, s = {"w": torch.from_numpy(quality)}, {"w": torch.from_numpy(semantic)}
    reports = [regularize(g, s, QgrConfig(rule=rule))[1] for rule in ("agreement", "conflict")]
    against = {"w": -s["w"]}
    mirrored = regularize(g, against, QgrConfig(rule="conflict"))[1]
    assert sum(report.projected_share for report in reports) <= 1
    assert mirrored.projected_share == reports[0].projected_share


def test_parameters_are_paired_by_name():
    with pytest.raises(ValueError, match="same parameters"):
        regularize(vector(1.0), {"other": torch.ones(1)}, QgrConfig())


@pytest.mark.parametrize(
    "bad", [{"strength": -1.0}, {"strength": math.nan}, {"scope": "layer"}, {"rule": "both"}, {"temperature": 0.0}]
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError):
        QgrConfig(**bad)
