"""Properties of every distortion: shapes, determinism, severity, composition."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grmp_core.distortions import KADID_NAMES, MAX_PARTS, REGISTRY, compose, draw_composition, get
from grmp_core.errors import InputError
from tests.grmp_core.distortions.pictures import INVISIBLE, distort, textured

NAMES = tuple(REGISTRY)


def test_registry_holds_kadids_25_types_in_order_then_the_11_that_only_tid2013_has() -> None:
    assert len(KADID_NAMES) == 25
    assert [REGISTRY[name].kadid_id for name in NAMES[:25]] == list(range(1, 26))
    assert [REGISTRY[name].tid_id for name in NAMES[25:]] == [3, 4, 5, 12, 13, 15, 20, 21, 22, 23, 24]
    tid_ids = sorted(d.tid_id for d in REGISTRY.values() if d.tid_id is not None)
    assert tid_ids == list(range(1, 25))
    assert all(d.description and name == d.name for name, d in REGISTRY.items())


def test_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean gaussian_blur"):
        get("gausian_blur")


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_bytes_and_leaves_the_input_alone(name: str) -> None:
    image = textured()
    before = image.copy()
    image.flags.writeable = False
    first, second = distort(image, name, 3.7, seed=11), distort(image, name, 3.7, seed=11)
    assert first.tobytes() == second.tobytes()
    assert not np.shares_memory(first, image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", ["white_noise", "motion_blur", "jitter", "colour_block", "comfort_noise"])
def test_another_seed_gives_another_picture(name: str) -> None:
    assert (distort(textured(), name, 4, seed=1) != distort(textured(), name, 4, seed=2)).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 57), (43, 1), (2, 3), (33, 51), (8, 200)])
def test_odd_and_tiny_sizes_keep_shape_and_dtype(name: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for severity in (1, 2.4, 5):
        result = distort(image, name, severity)
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    severity=st.floats(1, 5),
    seed=st.integers(0, 2**31),
)
def test_any_small_picture_at_any_severity(name: str, height: int, width: int, severity: float, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    result = distort(image, name, severity, seed)
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    assert result.tobytes() == distort(image, name, severity, seed).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_grey_pictures_work(name: str) -> None:
    grey = np.repeat(textured()[..., :1], 3, axis=2)
    assert distort(grey, name, 4).shape == grey.shape


@pytest.mark.parametrize("name", NAMES)
def test_every_level_changes_the_picture_except_the_identities(name: str) -> None:
    image = textured()
    for level in range(1, 6):
        changed = np.abs(distort(image, name, level).astype(int) - image)
        if (name, level) in INVISIBLE:
            assert changed.max() <= 1, level
        else:
            assert changed.max() > 1, level


@pytest.mark.parametrize("name", NAMES)
def test_parameter_is_exact_at_levels_and_continuous_and_monotone_between(name: str) -> None:
    distortion = get(name)
    assert [distortion.parameter(level) for level in range(1, 6)] == list(distortion.levels)
    for level in range(1, 5):
        a, b = distortion.levels[level - 1], distortion.levels[level]
        steps = np.array([distortion.parameter(level + share) for share in np.linspace(0, 1, 101)])
        assert (np.diff(steps) * np.sign(b - a) >= 0).all()
        assert np.abs(np.diff(steps)).max() <= 0.1 * abs(b - a)


SMOOTH = (
    *("gaussian_blur", "lens_blur", "motion_blur", "colour_diffusion", "colour_shift", "saturation_hsv"),
    *("saturation_lab", "jpeg2000", "white_noise", "white_noise_ycbcr", "multiplicative_noise", "denoise"),
    *("brighten", "darken", "mean_shift", "jitter", "sharpen", "contrast", "masked_noise", "comfort_noise"),
)


@pytest.mark.parametrize("name", SMOOTH)
def test_picture_is_continuous_in_severity(name: str) -> None:
    """A hundredth of a level moves the picture by a small part of what the two levels around it differ by."""
    image = textured(256, 384)
    for middle in (2, 3, 3.5, 4):  # at 3.5 lens blur turns to the half-size picture
        below, here, above = (distort(image, name, s).astype(float) for s in (middle - 0.01, middle, middle + 0.01))
        whole = np.abs(distort(image, name, middle - 1).astype(float) - distort(image, name, middle + 1)).mean()
        assert np.abs(below - here).mean() <= 0.1 * whole + 0.3, middle
        assert np.abs(above - here).mean() <= 0.1 * whole + 0.3, middle


@pytest.mark.parametrize("severity", [0.99, 5.01, float("nan")])
def test_severity_outside_the_range_is_refused(severity: float) -> None:
    with pytest.raises(InputError, match=r"outside 1\.\.5"):
        distort(textured(), "jpeg", severity)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)]
)
def test_other_pictures_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="wants uint8 RGB"):
        distort(image, "jpeg", 2)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3)])
def test_empty_pictures_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="empty"):
        distort(np.zeros(shape, np.uint8), "jpeg", 2)


def test_composition_applies_its_parts_in_order() -> None:
    image, parts = textured(), (("gaussian_blur", 4.0), ("white_noise", 3.0))
    rng = np.random.default_rng(5)
    expected = get("white_noise")(get("gaussian_blur")(image, 4, rng), 3, rng)
    np.testing.assert_array_equal(compose(image, parts, np.random.default_rng(5)), expected)
    backwards = compose(image, parts[::-1], np.random.default_rng(5))
    assert (backwards != expected).any()


def test_composition_of_nothing_is_a_copy() -> None:
    image = textured()
    result = compose(image, (), np.random.default_rng(0))
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize(
    "names",
    [
        ("gaussian_blur", "lens_blur"),
        ("gaussian_blur", "jpeg", "white_noise", "darken", "jitter"),
    ],
)
def test_composition_of_one_group_twice_or_of_too_many_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="at most 4 distortions, one of a group"):
        compose(textured(), [(name, 2.0) for name in names], np.random.default_rng(0))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), max_parts=st.integers(1, MAX_PARTS))
def test_drawn_compositions_are_valid_and_repeatable(seed: int, max_parts: int) -> None:
    parts = draw_composition(np.random.default_rng(seed), max_parts)
    assert parts == draw_composition(np.random.default_rng(seed), max_parts)
    assert 1 <= len(parts) <= max_parts
    assert len({get(name).group for name, _ in parts}) == len(parts)
    assert all(name in KADID_NAMES and 1 <= severity <= 5 for name, severity in parts)


def test_import_does_not_load_torch_or_scipy() -> None:
    code = "import sys, grmp_core.distortions; print({'torch', 'scipy', 'ray', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
