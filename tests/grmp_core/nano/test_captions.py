"""Captions: deterministic, exclusive within a family, and only of tokens that the used-token table knows."""

import numpy as np
import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grmp_core.errors import InputError
from grmp_core.nano import captions

TYPES = tuple(captions.DISTORTION_PHRASES)
WORDS = ["tench", "great white shark", "lady's slipper"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def families(seed: int) -> dict[str, list[str]]:
    generator = rng(seed)
    return {
        "pairs": [text for pair in captions.quality_pairs(generator, 5) for text in pair],
        "fidelity": [text for pair in captions.fidelity_pairs(generator) for text in pair],
        "attributes": [text for pair in captions.attribute_pairs(generator) for text in pair],
        "grades": captions.grade_captions(generator),
        "types": captions.distortion_captions(TYPES, generator),
        "severities": captions.severity_captions(TYPES, generator),
        "classes": captions.class_captions(WORDS, generator),
        "scenes": captions.scene_captions(generator),
    }


def test_the_same_generator_state_gives_the_same_captions_and_another_gives_others():
    assert families(3) == families(3)
    assert any(families(3)[name] != families(4)[name] for name in families(3))


@given(st.integers(0, 10_000))
def test_captions_of_a_family_are_all_different_so_that_targets_are_unambiguous(seed):
    for name, family in families(seed).items():
        assert len(set(family)) == len(family), name


@given(st.integers(0, 10_000))
def test_both_captions_of_a_pair_have_the_same_words_in_front(seed):
    for drawn, known in (
        (captions.quality_pairs(rng(seed), len(captions.QUALITY_PAIRS)), captions.QUALITY_PAIRS),
        (captions.fidelity_pairs(rng(seed)), captions.FIDELITY_PAIRS),
        (captions.attribute_pairs(rng(seed)), captions.ATTRIBUTE_PAIRS),
    ):
        assert len(drawn) == len(known)
        for good, bad in drawn:
            assert any(
                good.endswith(g) and bad.endswith(b) and good.removesuffix(g) == bad.removesuffix(b) for g, b in known
            )


def test_the_canonical_pair_comes_first_always():
    for seed in range(20):
        good, bad = captions.quality_pairs(rng(seed), 3)[0]
        assert good.endswith("high quality.")
        assert bad.endswith("low quality.")


def test_sizes_and_order_of_the_distortion_families():
    plain, severe = captions.distortion_captions(TYPES), captions.severity_captions(TYPES)
    assert len(plain) == 26
    assert len(severe) == 126
    assert plain[2] == "a photo with motion blur"
    assert severe[2 * 5 + 3] == "a photo with strong motion blur"
    assert plain[-1] == severe[-1] == "a photo with no distortion"


def test_without_a_generator_the_first_template_is_taken():
    assert captions.class_captions(["tench"]) == ["a photo of a tench"]
    assert captions.scene_captions()[0] == "a photo of a animal"


@pytest.mark.parametrize(
    ("quality", "weights"),
    [(0.0, [1, 0, 0, 0, 0]), (1.0, [0, 0, 0, 0, 1]), (0.7, [0, 0, 0.2, 0.8, 0]), (1.3, [0, 0, 0, 0, 1])],
)
def test_grade_targets_by_hand(quality, weights):
    np.testing.assert_allclose(captions.grade_targets(np.array([quality])), [weights], atol=1e-6)


@given(st.lists(st.floats(1, 5), min_size=1, max_size=8))
def test_severity_targets_keep_the_severity_as_their_mean(severity):
    weights = captions.severity_targets(np.array(severity))
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights @ np.arange(1, 6), severity, rtol=1e-6)


@pytest.mark.parametrize(
    ("stem", "word", "scene"),
    [
        ("n01440764_tench", "tench", "animal"),
        ("n02655020_puffer", "puffer", "animal"),
        ("n02666196_abacus", "abacus", None),
        ("n03877845_palace", "palace", "cityscape"),
        ("n09193705_alp", "alp", "landscape"),
        ("n10148035_groom", "groom", "human"),
        ("n11939491_daisy", "daisy", "plant"),
        ("n01484850_great_white_shark", "great white shark", "animal"),
        ("100075", None, None),
    ],
)
def test_class_word_and_scene_of_file_names(stem, word, scene):
    assert captions.class_word(stem) == word
    assert captions.scene_of(stem) == scene


def test_a_type_without_words_is_refused_by_name():
    with pytest.raises(InputError, match="'smear'"):
        captions.distortion_captions(["jpeg", "smear"])


def test_no_caption_holds_a_token_that_all_captions_does_not_name():
    tokenize = open_clip.SimpleTokenizer(context_length=32)
    known = set(tokenize(captions.all_captions(TYPES, WORDS)).unique().tolist())
    for seed in range(30):
        texts = [text for family in families(seed).values() for text in family]
        assert set(tokenize(texts).unique().tolist()) <= known
