"""Captions that name what a photo shows, how good it is, and what was done to it.

The embedded backbone learns from these. A *family* is a set of captions that exclude each other: antonym pairs and
grades of quality, distortion types, types with a severity, class words, scenes. Every family has several templates;
which one is used comes from the Generator that is handed in, and from nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from grmp_core.errors import InputError
from grmp_core.model.scene_words import SCENES

CANONICAL_PAIR = ("high quality.", "low quality.")
QUALITY_PAIRS = (
    CANONICAL_PAIR,
    ("good photo.", "bad photo."),
    ("sharp, clean.", "blurry, noisy."),
    ("excellent quality.", "terrible quality."),
    ("sharp, clean, high quality.", "ruined, low quality."),
)
"""(good, bad): the same quality axis in other words. The first is what quality prediction asks with."""
FIDELITY_PAIRS = (
    ("pristine picture.", "distorted picture."),
    ("perfect image.", "ruined image."),
    ("clear, undistorted.", "degraded, damaged."),
)
"""(good, bad): what was done to a photo, whatever it was like before."""
ATTRIBUTE_PAIRS = (
    ("much fine detail.", "little fine detail."),
    ("bright photo.", "dark photo."),
    ("colorful photo.", "dull photo."),
)
"""(rich, poor), one a measure of `attributes.ATTRIBUTES`."""

GRADES = ("bad", "poor", "fair", "good", "excellent")
"""Quality 0, 0.25, 0.5, 0.75, 1: the five words of ITU-R BT.500."""

SEVERITY_WORDS = ("very slight", "slight", "moderate", "strong", "extreme")
"""Severity 1..5 in words."""

NO_DISTORTION = "no distortion"

DISTORTION_PHRASES: dict[str, tuple[str, ...]] = {
    "gaussian_blur": ("gaussian blur", "soft blur"),
    "lens_blur": ("lens blur", "out of focus blur"),
    "motion_blur": ("motion blur", "camera shake"),
    "colour_diffusion": ("color diffusion", "bleeding colors"),
    "colour_shift": ("color shift", "shifted color channels"),
    "colour_quantization": ("color quantization", "few colors"),
    "saturation_hsv": ("faded saturation", "washed out colors"),
    "saturation_lab": ("excessive saturation", "oversaturated colors"),
    "jpeg2000": ("jpeg2000 compression", "wavelet compression"),
    "jpeg": ("jpeg compression", "blocky compression"),
    "white_noise": ("white noise", "gaussian noise"),
    "white_noise_ycbcr": ("color noise", "chroma noise"),
    "impulse_noise": ("impulse noise", "salt and pepper noise"),
    "multiplicative_noise": ("multiplicative noise", "speckle noise"),
    "denoise": ("denoising artifacts", "smeared noise"),
    "brighten": ("overexposure", "too much brightness"),
    "darken": ("underexposure", "too much darkness"),
    "mean_shift": ("mean shift", "shifted brightness"),
    "jitter": ("pixel jitter", "scattered pixels"),
    "non_eccentricity_patch": ("misplaced patches", "displaced patches"),
    "pixelate": ("pixelation", "large pixels"),
    "quantization": ("quantization", "banding"),
    "colour_block": ("color blocks", "random colored squares"),
    "sharpen": ("oversharpening", "sharpening halos"),
    "contrast": ("changed contrast", "wrong contrast"),
}
"""KADID-10k's 25 types by their registered name; the first phrase is what type recognition asks with."""


_CONTEXTS = (
    "",
    "a photo of",
    "an image of",
    "this photo is",
    "this is a",
    "the picture looks",
    "a picture of",
    "quality of the photo:",
    "camera image,",
    "one of the images,",
)
_DISTORTION_TEMPLATES = (
    "a photo with {}",
    "an image with {}.",
    "{}",
    "a picture that suffers from {}.",
    "there is {} in this photo.",
)
_CLASS_TEMPLATES = ("a photo of a {}", "a {}.", "an image of the {}.", "this picture shows a {}.")
_SCENE_TEMPLATES = ("a photo of a {}", "a photo of {}.", "{}.", "a picture of a {} scene.")
_GRADE_TEMPLATES = ("a photo with {} quality", "{} quality.", "an image of {} quality.", "the quality is {}.")

_CLASS_FILE = re.compile(r"^n(?P<number>\d{8})_(?P<word>.+)$")
# WordNet numbers of ImageNet's 1,000 classes lie in runs of one kind; (last number of the run, scene or None).
_SCENE_RUNS = (
    (2655020, "animal"),
    (7565082, None),
    (7714570, "still_life"),
    (7768694, "plant"),
    (7999999, "still_life"),
    (9193704, None),
    (9472597, "landscape"),
    (10565667, "human"),
    (13133613, "plant"),
)
_SCENES_OF_WORDS = {
    "cityscape": "palace church mosque monastery castle street_sign traffic_light cinema triumphal_arch fountain "
    "streetcar trolleybus bell_cote dome obelisk steel_arch_bridge suspension_bridge viaduct parking_meter cab",
    "indoor": "library barbershop bookshop restaurant home_theater bathtub dining_table studio_couch wardrobe "
    "refrigerator stove shower_curtain four-poster desk bookcase entertainment_center china_cabinet washbasin "
    "toilet_seat rocking_chair table_lamp television window_shade crib cradle grocery_store shoe_shop toyshop",
    "landscape": "barn boathouse lakeside dock lumbermill pier dam breakwater worm_fence stone_wall megalith",
    "still_life": "teapot vase goblet cup coffee_mug plate pitcher wine_bottle water_jug mixing_bowl soup_bowl candle "
    "hourglass wooden_spoon ladle frying_pan wok caldron beaker",
}
_SCENE_OF_WORD = {word: scene for scene, words in _SCENES_OF_WORDS.items() for word in words.split()}


def quality_pairs(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """`count` antonym pairs (good, bad), the canonical one first; both of a pair have the same words in front."""
    others = rng.permutation(np.arange(1, len(QUALITY_PAIRS)))[: count - 1]
    return _in_context([QUALITY_PAIRS[i] for i in (0, *others)], rng)


def fidelity_pairs(rng: np.random.Generator) -> list[tuple[str, str]]:
    """All pairs (undamaged, damaged), in random contexts."""
    return _in_context(FIDELITY_PAIRS, rng)


def attribute_pairs(rng: np.random.Generator) -> list[tuple[str, str]]:
    """One pair (rich, poor) an attribute, in random contexts."""
    return _in_context(ATTRIBUTE_PAIRS, rng)


def _in_context(chosen: Sequence[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    contexts = [_CONTEXTS[int(i)] for i in rng.integers(0, len(_CONTEXTS), len(chosen))]
    return [
        (f"{words} {good}".strip(), f"{words} {bad}".strip())
        for words, (good, bad) in zip(contexts, chosen, strict=True)
    ]


def grade_captions(rng: np.random.Generator | None = None) -> list[str]:
    """One caption a grade, worst first; without a Generator the first template."""
    return _fill(_GRADE_TEMPLATES, GRADES, rng)


def grade_targets(quality: np.ndarray) -> np.ndarray:
    """Quality (B,) in [0,1] -> (B, 5) weights of the grades: linear between neighbours, each row adding up to 1."""
    return _between(np.asarray(quality, dtype=np.float64) * (len(GRADES) - 1), len(GRADES))


def severity_targets(severity: np.ndarray) -> np.ndarray:
    """Severity (B,) in [1,5] -> (B, 5) weights of the severity words, as `grade_targets`."""
    return _between(np.asarray(severity, dtype=np.float64) - 1, len(SEVERITY_WORDS))


def distortion_captions(names: Sequence[str], rng: np.random.Generator | None = None) -> list[str]:
    """One caption a type, then one of an undistorted photo: len(names) + 1. InputError for a type without words."""
    return _fill(_DISTORTION_TEMPLATES, [*_phrases(names, rng), NO_DISTORTION], rng)


def severity_captions(names: Sequence[str], rng: np.random.Generator | None = None) -> list[str]:
    """Captions of every type with every severity word, type by type, then the undistorted one: 5·len(names) + 1."""
    words = [f"{word} {phrase}" for phrase in _phrases(names, rng) for word in SEVERITY_WORDS]
    return _fill(_DISTORTION_TEMPLATES, [*words, NO_DISTORTION], rng)


def class_captions(words: Sequence[str], rng: np.random.Generator | None = None) -> list[str]:
    """One caption a class word, all in one template."""
    return _fill(_CLASS_TEMPLATES, words, rng)


def scene_captions(rng: np.random.Generator | None = None) -> list[str]:
    """One caption a scene; the first template is the one of the published code."""
    return _fill(_SCENE_TEMPLATES, SCENES, rng)


def class_word(stem: str) -> str | None:
    """`n01440764_great_white_shark` -> `great white shark`; None for a file name without a WordNet id."""
    match = _CLASS_FILE.match(stem)
    return match["word"].replace("_", " ") if match else None


def scene_of(stem: str) -> str | None:
    """The scene that the class in a file name implies, or None where it implies none."""
    match = _CLASS_FILE.match(stem)
    if match is None:
        return None
    if match["word"] in _SCENE_OF_WORD:
        return _SCENE_OF_WORD[match["word"]]
    number = int(match["number"])
    return next((scene for last, scene in _SCENE_RUNS if number <= last), None)


def all_captions(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """Every sentence part that training can produce: what the tokenizer will ever see, for a table of used tokens."""
    phrases = [phrase for name in names for phrase in _phrases_of(name)]
    fillers = [*phrases, NO_DISTORTION, *SEVERITY_WORDS, *words, *SCENES, *GRADES]
    templates = [*_DISTORTION_TEMPLATES, *_CLASS_TEMPLATES, *_SCENE_TEMPLATES, *_GRADE_TEMPLATES]
    filled = [template.format(f) for template in templates for f in fillers]
    severe = [f"{word} {phrase}" for word in SEVERITY_WORDS for phrase in phrases]
    pairs = (*QUALITY_PAIRS, *FIDELITY_PAIRS, *ATTRIBUTE_PAIRS)
    asked = [f"{context} {part}".strip() for context in _CONTEXTS for pair in pairs for part in pair]
    return [*filled, *severe, *asked]


def _fill(templates: Sequence[str], fillers: Sequence[str], rng: np.random.Generator | None) -> list[str]:
    template = templates[0 if rng is None else int(rng.integers(len(templates)))]
    return [template.format(filler) for filler in fillers]


def _phrases(names: Sequence[str], rng: np.random.Generator | None) -> list[str]:
    choices = [_phrases_of(name) for name in names]
    return [phrases[0 if rng is None else int(rng.integers(len(phrases)))] for phrases in choices]


def _phrases_of(name: str) -> tuple[str, ...]:
    if name not in DISTORTION_PHRASES:
        raise InputError(f"distortion '{name}' has no caption; add its words to DISTORTION_PHRASES")
    return DISTORTION_PHRASES[name]


def _between(position: np.ndarray, count: int) -> np.ndarray:
    """Positions (B,) in [0, count-1] -> (B, count) linear weights of the two neighbours."""
    distance = np.abs(np.clip(position, 0, count - 1)[:, None] - np.arange(count))
    return np.maximum(0.0, 1.0 - distance).astype(np.float32)
