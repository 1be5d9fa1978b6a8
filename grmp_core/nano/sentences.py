"""The sentences of one training step, by family: antonym pairs, grades, distortion types, severities, classes, scenes.

Every family is a set of sentences that exclude each other. Shapes: B images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grmp_core.distortions import KADID_NAMES
from grmp_core.model.settings import PromptConfig
from grmp_core.nano import captions
from grmp_core.nano.content import SCENE_WORDS, words_of_scenes

HELD_OUT_TYPES = ("motion_blur", "colour_diffusion", "jpeg2000", "impulse_noise", "pixelate")
"""Distortion types that training never shows or names, one of a family each, to test what an unseen type costs."""
TYPES = tuple(name for name in KADID_NAMES if name not in HELD_OUT_TYPES)
"""The types of training, in the order of caption and target columns."""
PLACEHOLDER = "x"
_CLASS_TEMPLATES = ("a photo of a {}", "a {}.", "an image of the {}.", "this picture shows a {}.")
_SCENE_TEMPLATES = ("a photo of a {}", "a photo of {}.", "{}.", "a picture of a {} scene.")


@dataclass(frozen=True)
class Sentences:
    """The sentences of a step, family behind family."""

    texts: list[str]
    places: dict[str, slice]
    classes: np.ndarray
    """The class numbers behind the class sentences."""
    num_placeholder_tokens: int
    """Tokens behind the first one of each sentence of the family `learned`, where a learned context takes its place."""


def draw_sentences(
    rng: np.random.Generator, class_words: Sequence[str], classes_BC: np.ndarray, num_classes: int, num_pairs: int
) -> Sentences:
    """Draw the wording of every family, and `num_classes` classes: the likeliest of each image, the rest at random."""
    chosen = _choose_classes(rng, classes_BC, num_classes)
    config = PromptConfig()
    learned = [" ".join([PLACEHOLDER] * config.context_tokens + [phrase]) for phrase in config.phrases]
    families = {
        "pairs": [text for pair in captions.quality_pairs(rng, num_pairs) for text in pair],
        "learned": learned,
        "fidelity": [text for pair in captions.fidelity_pairs(rng) for text in pair],
        "grades": captions.grade_captions(rng),
        "types": captions.distortion_captions(TYPES, rng),
        "severities": captions.severity_captions(TYPES, rng),
        "classes": _fill(_CLASS_TEMPLATES, [class_words[i] for i in chosen], rng),
        "scenes": _fill(_SCENE_TEMPLATES, words_of_scenes(rng), rng),
    }
    texts: list[str] = []
    places = {}
    for name, family in families.items():
        places[name] = slice(len(texts), len(texts) + len(family))
        texts += family
    return Sentences(texts, places, chosen, config.context_tokens)


def remembering(tokenize: Callable[[list[str]], Tensor]) -> Callable[[list[str]], Tensor]:
    """The same tokenizer, which looks up the sentences it has seen: 410 a step, of a few thousand."""
    rows: dict[str, Tensor] = {}

    def look_up(texts: list[str]) -> Tensor:
        new = sorted({text for text in texts if text not in rows})
        if new:
            rows.update(zip(new, tokenize(new), strict=True))
        return torch.stack([rows[text] for text in texts])

    return look_up


def used_tokens(tokenize: Callable[[list[str]], Tensor], class_words: Sequence[str]) -> Tensor:
    """All token numbers that training can meet, sorted, padding (0) left out."""
    words = [word for words in SCENE_WORDS.values() for word in words]
    sentences = [
        *captions.all_captions(TYPES, class_words),
        *(template.format(word) for template in _SCENE_TEMPLATES for word in words),
        *(f"{PLACEHOLDER} {phrase}" for phrase in PromptConfig().phrases),
    ]
    tokens = tokenize(sorted(set(sentences))).unique()
    return tokens[tokens != 0]


def _choose_classes(rng: np.random.Generator, classes_BC: np.ndarray, count: int) -> np.ndarray:
    """`count` different classes, sorted: the best of every image, then the second best of every image, and so on for
    half of them; the other half at random."""
    ranked = np.argsort(-classes_BC, axis=1)[:, :16].T.ravel()
    likely = list(dict.fromkeys(ranked.tolist()))[: count // 2]
    others = np.setdiff1d(np.arange(classes_BC.shape[1]), likely)
    return np.sort(np.concatenate([likely, rng.permutation(others)[: count - len(likely)]]).astype(np.int64))


def _fill(templates: Sequence[str], words: Sequence[str], rng: np.random.Generator) -> list[str]:
    template = templates[int(rng.integers(len(templates)))]
    return [template.format(word) for word in words]
