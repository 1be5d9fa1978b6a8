"""Labels: looked-up values, interpolation, TID2013's map, the rule for compositions."""

from __future__ import annotations

import csv
import itertools
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grmp_core.distortions import KADID_NAMES, REGISTRY, draw_composition, get
from grmp_core.errors import InputError
from grmp_core.labels.human_means import (
    KADID_DMOS_KNOTS,
    PRISTINE_QUALITY,
    TID_MOS_KNOTS,
    combined_quality,
    quality_of,
    quality_of_composition,
    quality_of_tid_mos,
)

CELLS = [(name, level) for name in REGISTRY for level in range(1, 6)]


def read_rows(file_name: str) -> list[dict[str, str]]:
    with (resources.files("grmp_core") / "assets" / file_name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "level", "dmos"),
    [
        ("gaussian_blur", 1, 4.6122),
        ("jpeg2000", 5, 1.3938),
        ("white_noise", 3, 3.0451),
        ("denoise", 2, 2.7272),
        ("mean_shift", 3, 4.6030),
        ("contrast", 1, 3.4194),
        ("contrast", 3, 4.2901),
    ],
)
def test_kadid_cells_are_looked_up(name: str, level: int, dmos: float) -> None:
    assert quality_of(name, level) == pytest.approx((dmos - 1) / 4)


def test_every_kadid_type_has_the_row_of_its_own_id() -> None:
    for row in read_rows("kadid10k_mean_dmos.csv"):
        name = KADID_NAMES[int(row["type_id"]) - 1]
        assert get(name).kadid_id == int(row["type_id"])
        assert quality_of(name, int(row["level"])) == pytest.approx((float(row["mean"]) - 1) / 4)


def test_quality_is_linear_between_levels_and_stays_in_range() -> None:
    for name, level in itertools.product(REGISTRY, range(1, 5)):
        low, high = quality_of(name, level), quality_of(name, level + 1)
        assert quality_of(name, level + 0.25) == pytest.approx(0.75 * low + 0.25 * high)
        assert 0 <= min(low, high) <= max(low, high) <= 1


def test_unknown_names_and_severities_outside_the_range_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean jpeg2000"):
        quality_of("jpeg200", 1)
    for severity in (0.9, 5.1, float("nan")):
        with pytest.raises(InputError, match=r"outside 1\.\.5"):
            quality_of("jpeg", severity)


def test_tid_only_types_keep_the_order_of_their_human_means() -> None:
    rows = read_rows("tid2013_mean_mos.csv")
    name_of = {d.tid_id: name for name, d in REGISTRY.items() if d.kadid_id is None}
    pairs = sorted(
        (float(row["mean"]), quality_of(name_of[int(row["type_id"])], int(row["level"])))
        for row in rows
        if int(row["type_id"]) in name_of
    )
    assert len(pairs) == 55
    assert all(a[1] < b[1] for a, b in itertools.pairwise(pairs) if a[0] < b[0])
    assert quality_of("sparse_sampling", 5) < 0.1 < 0.8 < quality_of("chromatic_aberration", 1)


def test_the_map_from_tid2013_is_the_least_squares_fit_to_its_anchors() -> None:
    rows = read_rows("tid_to_kadid_anchors.csv")
    mos = np.array([float(row["tid_mos"]) for row in rows])
    dmos = np.array([float(row["kadid_dmos"]) for row in rows])
    knots = np.array(TID_MOS_KNOTS)
    basis = np.stack([np.interp(mos, knots, np.eye(len(knots))[i]) for i in range(len(knots))], axis=1)
    known = basis[:, 0] * KADID_DMOS_KNOTS[0] + basis[:, -1] * KADID_DMOS_KNOTS[-1]
    inner, *_ = np.linalg.lstsq(basis[:, 1:-1], dmos - known, rcond=None)
    np.testing.assert_allclose(inner, KADID_DMOS_KNOTS[1:-1], atol=0.01)
    assert np.sqrt(np.mean((np.interp(mos, knots, KADID_DMOS_KNOTS) - dmos) ** 2)) == pytest.approx(0.36, abs=0.01)
    assert (np.diff(KADID_DMOS_KNOTS) > 0).all()


def test_white_noise_anchors_follow_from_the_variances_alone() -> None:
    """KADID-10k's white noise has a PSNR of -10 log10(variance), so these anchors need no photo."""
    psnr_db = -10 * np.log10(get("white_noise").levels)
    dmos = [4 * quality_of("white_noise", level) + 1 for level in range(1, 6)]
    for row in read_rows("tid_to_kadid_anchors.csv"):
        if row["type_name"] == "white_noise":
            expected = np.interp(float(row["psnr_db"]), psnr_db[::-1], dmos[::-1])
            assert float(row["kadid_dmos"]) == pytest.approx(expected, abs=0.08)


def test_the_map_is_clipped_at_its_ends() -> None:
    assert quality_of_tid_mos(-1) == 0
    assert quality_of_tid_mos(9) == pytest.approx(0.9)


def test_nothing_is_pristine_and_a_single_part_keeps_its_label() -> None:
    assert quality_of_composition(()) == PRISTINE_QUALITY
    for name, level in CELLS:
        single = quality_of_composition([(name, level)])
        assert single == pytest.approx(min(PRISTINE_QUALITY, quality_of(name, level)))


def test_nothing_is_left_of_a_picture_of_which_a_part_leaves_nothing() -> None:
    assert combined_quality([0.8, 0.0]) == 0.0


def test_two_parts_by_hand() -> None:
    first, second = quality_of("jpeg", 4), quality_of("white_noise", 3)
    damage = np.sqrt((PRISTINE_QUALITY / first - 1) ** 2 + (PRISTINE_QUALITY / second - 1) ** 2)
    result = quality_of_composition([("jpeg", 4), ("white_noise", 3)])
    assert result == pytest.approx(PRISTINE_QUALITY / (1 + damage))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_composition_is_at_most_as_good_as_its_worst_part_and_order_does_not_matter(seed: int) -> None:
    parts = draw_composition(np.random.default_rng(seed))
    quality = quality_of_composition(parts)
    assert 0 < quality <= min(quality_of(name, severity) for name, severity in parts) + 1e-12
    assert quality == pytest.approx(quality_of_composition(parts[::-1]))
    assert quality <= quality_of_composition(parts[:-1]) + 1e-12
