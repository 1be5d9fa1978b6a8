"""Labelled crops for training a backbone: photos distorted at native resolution, with all that captions can say.

Batch number i is a pure function of (photos, seed, i), so that workers may make batches in any order and a resumed run
sees what it would have seen.

Shapes: photos and crops (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from grmp_core.distortions import get
from grmp_core.imaging.decoding import read_image
from grmp_core.imaging.listing import list_images
from grmp_core.imaging.views import at_least
from grmp_core.labels.human_means import combined_quality, quality_of, quality_of_composition
from grmp_core.labels.own_quality import UNDISTORTED_QUALITY, attributes, own_quality
from grmp_core.model import scene_words
from grmp_core.nano import captions
from grmp_core.nano.caption_training import Batch
from grmp_core.procedural.scenes import reference
from grmp_core.seeds import generator_of

TYPES = tuple(captions.DISTORTION_PHRASES)
"""The distortion types in the order of caption and target columns."""

Parts = list[tuple[str, float]]

_BLURS = ("lens_blur", "gaussian_blur", "motion_blur")
_LIGHTS = ("darken", "brighten", "mean_shift", "contrast", "saturation_hsv", "saturation_lab")
_NOISES = ("white_noise", "white_noise_ycbcr", "multiplicative_noise")
_CODECS = ("jpeg", "jpeg", "jpeg", "jpeg2000")
_CHAIN = (
    (_BLURS, 0.6),
    (_LIGHTS, 0.55),
    (_NOISES, 0.45),
    (("denoise",), 0.08),
    (("sharpen",), 0.12),
    (_CODECS, 0.5),
)
"""(types, share of the windows that get one of them), in the order a camera applies them."""


@dataclass(frozen=True)
class Photo:
    """A pristine picture and the words its file name gives."""

    pixels_HW3: np.ndarray
    class_index: int
    """-1: unknown."""
    scene_index: int
    """-1: unknown."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    size_px: int = 224
    window_px: tuple[int, int] = (256, 320)
    """Short and long side of the piece that is distorted; crops are cut from it, off any grid the distortion has."""
    crops_per_window: int = 2
    clean: float = 0.4
    single: float = 0.3
    """Shares of undistorted and singly distorted windows; the rest carries two or three distortions."""
    shrink: float = 0.35
    """Share of photos that are shrunk (to 0.75 of their size or more) before they are distorted."""
    soften: float = 0.4
    """Share that is enlarged instead (up to three times), as a soft photo."""
    relight: float = 0.5
    """Share of windows whose tones are moved (gamma 0.6 to 1.8)."""
    recolour: float = 0.5
    """Share of windows whose colours are made paler or stronger (saturation times 0.3 to 1.3)."""


@dataclass(frozen=True)
class PhotoSet:
    photos: list[Photo]
    class_words: list[str]


def held_out(path: Path) -> bool:
    """True for one file in fourteen, decided by the hash of its content: never trained on."""
    return int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16) % 14 == 0


def load_photos(folders: Sequence[str], num_procedural: int, *, validation: bool = False) -> PhotoSet:
    """Read all photos of the training (or the validation) part, and draw `num_procedural` references.

    Validation references have seeds of their own. InputError for a folder without images or an unreadable file.
    """
    paths = [Path(path) for folder in folders for path in list_images(folder).paths]
    words = sorted({word for path in paths if (word := captions.class_word(path.stem))})
    index_of = {word: index for index, word in enumerate(words)}
    photos = [
        Photo(read_image(path), index_of.get(captions.class_word(path.stem) or "", -1), _scene_index(path.stem))
        for path in paths
        if held_out(path) == validation
    ]
    first_seed = 1_000_000 if validation else 0
    photos += [Photo(reference(first_seed + i), -1, -1) for i in range(num_procedural)]
    return PhotoSet(photos, words)


def make_batch(photos: Sequence[Photo], num_images: int, config: CropConfig, seed: int, index: int) -> Batch:
    """Batch `index` of a run: `num_images` crops, `crops_per_window` of every distorted window."""
    rng = generator_of("training batch", seed, index)
    images: list[np.ndarray] = []
    made: list[tuple[Photo, Parts, float]] = []
    while len(images) < num_images:
        photo = photos[int(rng.integers(len(photos)))]
        parts = draw_parts(rng, config)
        window = cut_window(photo.pixels_HW3, config, rng)
        own = own_quality(attributes(window))
        window = apply_parts(window, parts, rng)
        for _ in range(min(config.crops_per_window, num_images - len(images))):
            images.append(_crop(window, config.size_px, rng))
            made.append((photo, parts, own))
    return Batch(
        images_BHWC=torch.from_numpy(np.stack(images)),
        quality_B=torch.tensor([overall_quality(parts, own) for _, parts, own in made], dtype=torch.float32),
        fidelity_B=torch.tensor([quality_of_parts(parts) for _, parts, _ in made], dtype=torch.float32),
        attributes_BA=torch.from_numpy(np.stack([attributes(image) for image in images])).float(),
        types_BT=torch.from_numpy(np.stack([type_targets(parts) for _, parts, _ in made])),
        severities_BK=torch.from_numpy(np.stack([severity_targets(parts) for _, parts, _ in made])),
        classes_B=torch.tensor([photo.class_index for photo, _, _ in made]),
        scenes_B=torch.tensor([photo.scene_index for photo, _, _ in made]),
    )


def draw_parts(rng: np.random.Generator, config: CropConfig) -> Parts:
    """Damage of one window: none, one type, a chain as of a camera, or two or three types of any kind."""
    kind = rng.random()
    if kind < config.clean:
        return []
    if kind < config.clean + config.single:
        return [(TYPES[int(rng.integers(len(TYPES)))], float(rng.uniform(1, 5)))]
    if rng.random() < 0.7:
        return _camera_chain(rng)
    chosen = rng.choice(len(TYPES), int(rng.integers(2, 4)), replace=False)
    return [(TYPES[int(i)], _mild(rng)) for i in chosen]


def apply_parts(image_HW3: np.ndarray, parts: Iterable[tuple[str, float]], rng: np.random.Generator) -> np.ndarray:
    """Apply (type, severity) one after the other."""
    for name, severity in parts:
        image_HW3 = get(name)(image_HW3, severity, rng)
    return image_HW3


def quality_of_parts(parts: Parts) -> float:
    """The calibrated label in [0,1]."""
    if not parts:
        return UNDISTORTED_QUALITY
    return float(quality_of(*parts[0]) if len(parts) == 1 else quality_of_composition(parts))


def overall_quality(parts: Parts, own: float) -> float:
    """Label in [0,1] of a photo with `parts` done to it, whose own quality, in (0,1], adds to them like a damage."""
    return combined_quality([own, quality_of_parts(parts)]) if parts else own


def type_targets(parts: Parts) -> np.ndarray:
    """(T,) weights adding up to 1: of a composition every type by the quality it costs; the last: undistorted."""
    target = np.zeros(len(TYPES) + 1, dtype=np.float32)
    if not parts:
        target[-1] = 1
    for name, severity in parts:
        target[TYPES.index(name)] += max(UNDISTORTED_QUALITY - quality_of(name, severity), 0) + 0.02
    return target / target.sum()


def severity_targets(parts: Parts) -> np.ndarray:
    """(5·types + 1,) weights over the severity captions; all zero for compositions, which no one of them describes."""
    target = np.zeros(len(TYPES) * len(captions.SEVERITY_WORDS) + 1, dtype=np.float32)
    if not parts:
        target[-1] = 1
    if len(parts) == 1:
        name, severity = parts[0]
        start = TYPES.index(name) * len(captions.SEVERITY_WORDS)
        target[start : start + len(captions.SEVERITY_WORDS)] = captions.severity_targets(np.array([severity]))[0]
    return target


def cut_window(image_HW3: np.ndarray, config: CropConfig, rng: np.random.Generator) -> np.ndarray:
    """A random piece of a photo: sharper or softer, brighter or darker, paler or stronger in colour, or as it is."""
    smallest = max(config.window_px[0], config.size_px)
    kind = rng.random()
    if kind < config.shrink:
        factor = max(rng.uniform(0.75, 1), smallest / min(image_HW3.shape[:2]))
        if factor < 1:
            image_HW3 = cv2.resize(image_HW3, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    elif kind < config.shrink + config.soften:
        factor = rng.uniform(1, 3)
        image_HW3 = cv2.resize(image_HW3, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    image_HW3 = at_least(image_HW3, smallest)
    height, width = image_HW3.shape[:2]
    sides = config.window_px if height < width else config.window_px[::-1]
    window = _crop_to(image_HW3, min(sides[0], height), min(sides[1], width), rng)
    if rng.random() < config.relight:
        table = (255 * np.linspace(0, 1, 256) ** np.exp(rng.uniform(-0.5, 0.6)) + 0.5).astype(np.uint8)
        window = cv2.LUT(window, table)
    if rng.random() < config.recolour:
        grey = cv2.cvtColor(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        strength = rng.uniform(0.3, 1.3)
        window = cv2.addWeighted(window, strength, grey, 1 - strength, 0)
    return np.ascontiguousarray(window[:, ::-1] if rng.random() < 0.5 else window)


def _camera_chain(rng: np.random.Generator) -> Parts:
    """Blur, light, noise and compression in the order a camera has them, each there or not, at least two."""
    while True:
        parts = [(str(rng.choice(names)), _mild(rng)) for names, share in _CHAIN if rng.random() < share]
        if 2 <= len(parts) <= 3:
            return parts


def _mild(rng: np.random.Generator) -> float:
    """Severity in [1,5], mostly low: what is found together in the wild is seldom extreme."""
    return 1 + 4 * float(rng.beta(1.1, 1.9))


def _crop(image_HW3: np.ndarray, size_px: int, rng: np.random.Generator) -> np.ndarray:
    return _crop_to(image_HW3, size_px, size_px, rng)


def _crop_to(image_HW3: np.ndarray, height_px: int, width_px: int, rng: np.random.Generator) -> np.ndarray:
    top = int(rng.integers(image_HW3.shape[0] - height_px + 1))
    left = int(rng.integers(image_HW3.shape[1] - width_px + 1))
    return image_HW3[top : top + height_px, left : left + width_px]


def _scene_index(stem: str) -> int:
    scene = captions.scene_of(stem)
    return -1 if scene is None else scene_words.SCENES.index(scene)
