"""Each level's parameter against a computation that does not share code with the distortion."""

from __future__ import annotations

import colorsys
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from grmp_core.distortions import blur, get, wavelet
from tests.grmp_core.distortions.pictures import distort, psnr_db, similarity, textured

GREY = np.full((256, 256, 3), 128, np.uint8)
LEVELS = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("level", LEVELS)
def test_gaussian_blur_of_a_point_is_the_normal_curve_cut_at_two_sigmas(level: int) -> None:
    sigma = (0.1, 0.5, 1, 2, 5)[level - 1]
    step = np.zeros((64, 64, 3), np.uint8)
    step[:, 32:] = 240
    expected = gaussian_filter1d(step[0, :, 0].astype(float), sigma, radius=int(np.ceil(2 * sigma)))
    assert np.abs(distort(step, "gaussian_blur", level)[20, :, 1] - expected).max() <= 1.5


@pytest.mark.parametrize("radius", [2.5, 4, 6])
def test_lens_blur_kernel_covers_the_area_of_its_disk(radius: float) -> None:
    kernel = blur.disk(radius)
    assert kernel.sum() == 1
    assert kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] == pytest.approx(1 / (np.pi * radius**2), rel=0.03)
    offset = np.arange(len(kernel)) - len(kernel) // 2
    assert (kernel * offset**2).sum() == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.06)  # second moment of a disk


def test_large_disks_at_half_size_stay_close_to_the_exact_ones() -> None:
    image = textured(256, 384)
    exact = cv2.filter2D(image, -1, blur.disk(8), borderType=cv2.BORDER_REFLECT)
    assert psnr_db(distort(image, "lens_blur", 5), exact) > 38


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 2.5])
def test_motion_blur_kernel_is_a_stroke_of_its_length_and_angle(angle: float) -> None:
    kernel = blur.line(10, angle)
    offset = np.arange(len(kernel)) - len(kernel) // 2
    along = offset[None, :] * np.cos(angle) + offset[:, None] * np.sin(angle)
    across = -offset[None, :] * np.sin(angle) + offset[:, None] * np.cos(angle)
    assert kernel.sum() == 1
    assert np.sqrt(12 * (kernel * along**2).sum()) == pytest.approx(10, rel=0.1)  # a rod's length from its moment
    assert (kernel * across**2).sum() < 0.3


@pytest.mark.parametrize("level", LEVELS)
def test_white_noise_has_the_psnr_of_its_variance(level: int) -> None:
    variance = (0.001, 0.002, 0.003, 0.005, 0.01)[level - 1]
    noisy = distort(GREY, "white_noise", level)
    assert psnr_db(noisy, GREY) == pytest.approx(-10 * np.log10(variance), abs=0.1)
    error = (noisy.astype(float) - 128).reshape(-1)
    assert abs(error.mean()) < 0.2
    assert np.mean(error**4) / np.mean(error**2) ** 2 == pytest.approx(3, abs=0.1)  # kurtosis of a normal variable
    assert abs(np.corrcoef(error[:-1], error[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("level", LEVELS)
def test_ycbcr_noise_has_its_variance_in_each_component(level: int) -> None:
    variance = (0.0001, 0.0005, 0.001, 0.002, 0.003)[level - 1]
    error = (distort(GREY, "white_noise_ycbcr", level).astype(float) - 128) / 255
    to_studio_ycbcr = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112], [112, -93.786, -18.214]]) / 255
    components = error.reshape(-1, 3) @ to_studio_ycbcr.T
    np.testing.assert_allclose(components.var(axis=0), variance, rtol=0.05)
    assert np.abs(np.corrcoef(components.T) - np.eye(3)).max() < 0.06


@pytest.mark.parametrize("level", LEVELS)
def test_impulse_noise_strikes_its_share_of_values_evenly_black_and_white(level: int) -> None:
    density = (0.001, 0.005, 0.01, 0.02, 0.03)[level - 1]
    noisy = distort(GREY, "impulse_noise", level)
    struck = noisy != 128
    deviation = np.sqrt(density * (1 - density) / struck.size)
    assert struck.mean() == pytest.approx(density, abs=4 * deviation)
    assert set(np.unique(noisy)) == {0, 128, 255}
    assert (noisy[struck] == 255).mean() == pytest.approx(0.5, abs=0.5 * 4 / np.sqrt(struck.sum()))


@pytest.mark.parametrize("level", LEVELS)
def test_multiplicative_noise_grows_with_the_value(level: int) -> None:
    variance = (0.001, 0.005, 0.01, 0.02, 0.05)[level - 1]
    for value in (40, 100):
        noisy = distort(np.full_like(GREY, value), "multiplicative_noise", level).astype(float)
        assert noisy.var() == pytest.approx(value**2 * variance + 1 / 12, rel=0.03)


@pytest.mark.parametrize("level", LEVELS)
def test_jpeg_is_coded_with_the_tables_of_its_quality(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    quality = (43, 36, 24, 7, 4)[level - 1]
    streams = []
    encode = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *a: streams.append(encode(*a)) or streams[-1])
    image = textured()
    result = distort(image, "jpeg", level)
    decoded = Image.open(io.BytesIO(streams[0][1].tobytes()))
    # Annex K's luma table begins 16, 11, 10, 16 (Pillow gives it row by row); libjpeg scales it by 5000 / quality.
    expected = [min(255, (entry * (5000 // quality) + 50) // 100) for entry in (16, 11, 10, 16)]
    assert list(decoded.quantization[0][:4]) == expected
    assert np.abs(np.asarray(decoded.convert("RGB")).astype(int) - result).mean() < 1


def codec(image: np.ndarray, ratio: int) -> np.ndarray:
    """OpenJPEG's picture at a compression ratio: 9/7 wavelet, one layer, five decompositions."""
    stream = io.BytesIO()
    Image.fromarray(image).save(
        stream, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[ratio], num_resolutions=6
    )
    return np.asarray(Image.open(stream))


def photo_like(seed: int, height: int = 384, width: int = 512) -> np.ndarray:
    """Luma of amplitude 1/frequency, as photos have, with a third of that in chroma."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) + 1 / width
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / frequency) for _ in range(3)]
    luma, red, blue = (plane / plane.std() for plane in planes)
    rgb = np.stack([luma + 0.3 * red, luma - 0.15 * red - 0.1 * blue, luma + 0.3 * blue], axis=2)
    return np.clip(rgb * 45 + 120, 0, 255).astype(np.uint8)


RATIOS = [(1, 16), (2, 32), (3, 45), (4, 120), (5, 400)]


@pytest.mark.parametrize(("level", "ratio"), RATIOS)
def test_jpeg2000_is_as_strong_as_the_codec_at_the_same_ratio(level: int, ratio: int) -> None:
    image = photo_like(level)
    coded, ours = codec(image, ratio), distort(image, "jpeg2000", level)
    assert psnr_db(ours, image) == pytest.approx(psnr_db(coded, image), abs=0.8)
    assert similarity(ours, image) == pytest.approx(similarity(coded, image), abs=0.06)
    assert psnr_db(ours, coded) > psnr_db(coded, image)  # nearer to the codec's picture than that is to the original


@pytest.mark.shared_data
@pytest.mark.parametrize(("level", "ratio"), RATIOS)
def test_jpeg2000_is_as_strong_as_the_codec_on_photos(level: int, ratio: int, shared_data: Path) -> None:
    gaps = []
    for path in sorted((shared_data / "photos" / "bsds500").glob("*.jpg"))[::40]:
        image = np.asarray(Image.open(path).convert("RGB"))
        gaps.append(psnr_db(distort(image, "jpeg2000", level), image) - psnr_db(codec(image, ratio), image))
    assert abs(np.mean(gaps)) < 0.3
    assert np.std(gaps) < 1


@pytest.mark.parametrize("level", LEVELS)
def test_hsv_saturation_by_hand(level: int) -> None:
    factor = (0.4, 0.2, 0.1, 0, -0.4)[level - 1]
    colours = np.random.default_rng(0).integers(0, 256, (1, 60, 3), dtype=np.uint8)
    result = distort(colours, "saturation_hsv", level)
    for before, after in zip(colours[0] / 255, result[0] / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = np.minimum(colorsys.hsv_to_rgb(hue, saturation * factor, value), 1)
        np.testing.assert_allclose(after, expected, atol=1.01 / 255)


def test_lab_saturation_multiplies_chroma_and_keeps_lightness() -> None:
    image = np.clip(textured().astype(int) // 6 + 100, 0, 255).astype(np.uint8)  # pale enough to stay in the gamut
    result = distort(image, "saturation_lab", 2)
    before, after = (cv2.cvtColor(i.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) for i in (image, result))
    inside = ((result > 2) & (result < 253)).all(axis=2)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(after[inside][:, 0], before[inside][:, 0], atol=0.6)
    np.testing.assert_allclose(after[inside][:, 1:], 2 * before[inside][:, 1:], atol=1.2)


@pytest.mark.parametrize("level", LEVELS)
def test_colour_diffusion_keeps_lightness_and_blurs_chroma(level: int) -> None:
    image = np.full((64, 64, 3), 120, np.uint8)
    image[:, 32:] = (124, 119, 116)
    result = cv2.cvtColor(distort(image, "colour_diffusion", level).astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    source = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    amount = (1, 3, 6, 8, 12)[level - 1]
    np.testing.assert_allclose(result[..., 0], source[..., 0], atol=1)
    profile = gaussian_filter1d(source[32, :, 2].astype(float), 1.5 * amount + 2, mode="reflect", truncate=2) * amount
    assert np.abs(result[32, :, 2] - profile).max() < 0.12 * profile.max() + 1


@pytest.mark.parametrize("level", LEVELS)
def test_colour_quantization_leaves_its_number_of_colours_with_little_error(level: int) -> None:
    count, image = (64, 48, 32, 16, 8)[level - 1], textured()
    result = distort(image, "colour_quantization", level)
    assert len(np.unique(result.reshape(-1, 3), axis=0)) == count
    pillow = Image.fromarray(image).quantize(count, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    assert psnr_db(result, image) > psnr_db(np.asarray(pillow.convert("RGB")), image) - 0.5


@pytest.mark.parametrize("level", LEVELS)
def test_quantization_leaves_its_number_of_values(level: int) -> None:
    count = (20, 16, 13, 10, 7)[level - 1]
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    values, runs = np.unique(distort(ramp, "quantization", level), return_counts=True)
    np.testing.assert_array_equal(values, np.rint(np.linspace(0, 255, count)))
    assert runs.max() - runs.min() <= 3  # three channels: bins of one width, to a value


@pytest.mark.parametrize("level", LEVELS)
def test_brighten_and_darken_follow_the_parabola_on_grey(level: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    x = np.arange(256) / 255
    fall = (0.05, 0.1, 0.2, 0.4, 0.8)[level - 1]
    expected = np.clip(np.polyval(np.polyfit([0, 0.5, 1], [0, 0.5 - fall / 2, 1], 2), x), 0, 1) * 255
    np.testing.assert_allclose(distort(ramp, "darken", level)[0, :, 0], expected, atol=0.51)
    lift = (0.1, 0.2, 0.4, 0.7, 1.1)[level - 1]
    raised = np.clip(np.polyval(np.polyfit([0, 0.5, 1], [0, 0.5 + lift / 2, 1], 2), x), 0, 1) * 255
    grey = distort(ramp, "brighten", level)[0].astype(float)
    assert np.abs(grey.mean(axis=1) - raised).mean() < 12  # a third of it works on lightness, another scale
    assert (grey[1:-1].mean(axis=1) >= np.arange(1, 255)).all()


@pytest.mark.parametrize("level", LEVELS)
def test_mean_shift_adds_its_offset(level: int) -> None:
    offset = (0.15, 0.08, 0, -0.08, -0.15)[level - 1] * 255
    shifted = distort(GREY, "mean_shift", level)
    assert shifted.mean() == pytest.approx(128 + offset, abs=0.5)


@pytest.mark.parametrize("level", LEVELS)
def test_contrast_curve_is_the_cubic_spline_through_its_knots(level: int) -> None:
    amount = (0.3, 0.15, 0, -0.4, -0.6)[level - 1]
    spline = CubicSpline([0, 0.3, 0.5, 0.7, 1], [0, 0.25 - amount / 4, 0.5, 0.75 + amount / 4, 1])
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    expected = np.clip(255 * spline(np.arange(256) / 255), 0, 255)
    np.testing.assert_allclose(distort(ramp, "contrast", level)[0, :, 2], expected, atol=0.51)


@pytest.mark.parametrize("level", LEVELS)
def test_sharpen_overshoots_a_lightness_step_by_its_amount(level: int) -> None:
    image = np.full((64, 64, 3), 118, np.uint8)
    image[:, 32:] = 128
    light = np.where(np.arange(64) < 32, 118.0, 128.0)
    blurred = gaussian_filter1d(light, 3, radius=6)
    amount = (1, 2, 3, 6, 12)[level - 1]
    result = distort(image, "sharpen", level)[32, :, 1].astype(float)
    assert result[32] - 128 == pytest.approx(amount * (light - blurred)[32], rel=0.25, abs=2)


@pytest.mark.parametrize("level", LEVELS)
def test_pixelate_leaves_squares_of_the_right_size(level: int) -> None:
    scale = 0.95 - (0.01, 0.05, 0.1, 0.2, 0.5)[level - 1] ** 0.6
    ramp = np.arange(200, dtype=np.uint8)
    image = np.repeat(np.repeat(ramp[None, :, None], 100, axis=0), 3, axis=2)
    columns = np.unique(distort(image, "pixelate", level)[50, :, 0])
    assert len(columns) == round(200 * scale)


@pytest.mark.parametrize("level", LEVELS)
def test_colour_blocks_and_patches_cover_at_most_their_number_of_squares(level: int) -> None:
    image = textured(256, 384)
    blocks = (distort(image, "colour_block", level) != image).any(axis=2).sum()
    assert 0.5 * 2 * level * 32**2 < blocks <= 2 * level * 32**2
    patches = (distort(image, "non_eccentricity_patch", level) != image).any(axis=2).sum()
    assert 0.3 * 20 * level * 16**2 < patches <= 20 * level * 16**2


@pytest.mark.parametrize("level", LEVELS)
def test_jitter_moves_pixels_by_its_amount_a_pass(level: int) -> None:
    amount = (0.05, 0.1, 0.2, 0.5, 1)[level - 1]
    slope = 4
    ramp = np.repeat(np.repeat(np.arange(4, 252, slope, dtype=np.uint8)[None, :, None], 300, axis=0), 3, axis=2)
    moved = (distort(ramp, "jitter", level).astype(float) - ramp)[10:-10, 10:-10, 0].std() / slope
    # The last pass shows whole, the interpolation of later passes averages the earlier ones.
    assert 0.9 * amount - 0.1 <= moved <= np.sqrt(5) * amount + 0.1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["spatially_correlated_noise", "masked_noise", "high_frequency_noise"])
def test_shaped_noise_has_the_psnr_of_its_level(name: str, level: int) -> None:
    image = np.clip(textured(256, 384), 60, 190)
    assert psnr_db(distort(image, name, level), image) == pytest.approx((33, 30, 27, 24, 21)[level - 1], abs=0.5)


def test_shaped_noises_have_their_shapes() -> None:
    def spectrum(name: str) -> tuple[float, float]:
        error = distort(GREY, name, 3)[..., 0].astype(float) - 128
        power = np.abs(np.fft.fft2(error)) ** 2
        return power[:32, :32].mean(), power[96:128, 96:128].mean()

    low, high = spectrum("spatially_correlated_noise")
    assert low > 5 * high
    low, high = spectrum("high_frequency_noise")
    assert high > 5 * low
    image = GREY.copy()
    image[:, 128:] = np.random.default_rng(0).integers(60, 200, (256, 128, 1))
    error = np.abs(distort(image, "masked_noise", 3).astype(float) - image)
    assert error[:, 140:].mean() > 10 * error[:, :116].mean()


def test_comfort_noise_keeps_the_spectrum_of_the_texture() -> None:
    image = textured(256, 256)
    before, after = (
        np.abs(cv2.Laplacian(i.astype(np.float32), -1)).mean() for i in (image, distort(image, "comfort_noise", 3))
    )
    assert after == pytest.approx(before, rel=0.4)
    assert psnr_db(distort(image, "comfort_noise", 3), image) == pytest.approx(27, abs=0.7)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (7, 1, 3), (2, 3, 1), (33, 50, 3), (64, 64, 2)])
def test_wavelet_comes_back_and_keeps_energy(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    pyramid = wavelet.decompose(image, 5)
    np.testing.assert_allclose(wavelet.reconstruct(pyramid), image, atol=1e-5)
    again = pyramid.with_flat(pyramid.flat())
    np.testing.assert_allclose(wavelet.reconstruct(again), image, atol=1e-5)
    assert pyramid.flat().size == image.size
    if min(shape[:2]) >= 33:
        assert (pyramid.flat() ** 2).sum() == pytest.approx((image**2).sum(), rel=0.12)


def test_wavelet_details_vanish_on_a_cubic() -> None:
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    image = np.repeat((x**3 - x)[:, None, None], 64, axis=1) * 100
    details = wavelet.decompose(image, 1).details[0]
    assert max(np.abs(band[2:-2, 2:-2]).max() for band in details) < 0.01  # four vanishing moments


FALLING = ("gaussian_blur", "lens_blur", "motion_blur", "colour_diffusion", "colour_quantization", "saturation_hsv")
FALLING += ("saturation_lab", "jpeg2000", "jpeg", "white_noise", "white_noise_ycbcr", "impulse_noise")
FALLING += ("multiplicative_noise", "denoise", "brighten", "darken", "jitter", "non_eccentricity_patch", "pixelate")
FALLING += ("quantization", "colour_block", "sharpen")
FALLING += ("spatially_correlated_noise", "masked_noise", "high_frequency_noise", "jpeg_transmission_errors")
FALLING += ("comfort_noise", "noisy_compression", "quantization_dither")
FALLING += ("chromatic_aberration", "sparse_sampling")


@pytest.mark.parametrize("name", FALLING)
def test_similarity_falls_with_level_where_the_human_means_fall(name: str) -> None:
    images = [textured(192, 256, seed) for seed in range(3)]
    by_level = [np.mean([_agreement(name, level, image) for image in images]) for level in LEVELS]
    assert (np.diff(by_level) < 0.003).all(), by_level
    assert by_level[4] < by_level[0] - 0.01, by_level


def test_similarity_falls_with_the_share_of_damaged_code_blocks() -> None:
    image = textured(384, 512)
    name = "jpeg2000_transmission_errors"
    by_level = [np.mean([similarity(distort(image, name, level, s), image) for s in range(6)]) for level in (1, 3, 5)]
    assert by_level[0] > by_level[1] + 0.01 > by_level[2] + 0.02


def _agreement(name: str, level: int, image: np.ndarray) -> float:
    """Structural similarity, less the mean error of colour, which it does not see."""
    result = distort(image, name, level, seed=level)
    return similarity(result, image) - float(np.abs(result.astype(float) - image).mean()) / 255


def test_types_that_are_not_monotone_peak_where_the_human_means_do() -> None:
    image = textured(192, 256)
    assert np.argmax([_agreement("mean_shift", level, image) for level in LEVELS]) == 2
    assert np.argmax([_agreement("contrast", level, image) for level in LEVELS[:3]]) == 2
    assert _agreement("contrast", 4, image) > _agreement("contrast", 5, image)
    assert np.argmax([_agreement("local_blocks", level, image) for level in LEVELS]) == 4


def test_get_gives_levels_as_published() -> None:
    assert get("jpeg2000").levels == (16, 32, 45, 120, 400)
    assert get("mean_shift").levels == (0.15, 0.08, 0.0, -0.08, -0.15)
    assert get("contrast").levels == (0.3, 0.15, 0.0, -0.4, -0.6)
