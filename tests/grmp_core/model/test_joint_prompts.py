"""Joint prompts: made-up features whose marginal is known, and the sentences in open_clip's own text encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grmp_core.model.joint_prompts import DISTORTIONS, GRADES, JointPrompts, joint_sentences
from grmp_core.model.scene_words import SCENES

COUNT = len(GRADES) * len(SCENES) * len(DISTORTIONS)


def views_that_see(*sentences: str) -> torch.Tensor:
    """One view a sentence, equal to its feature where every sentence has a direction of its own."""
    return torch.eye(COUNT)[[joint_sentences().index(sentence) for sentence in sentences]]


def sentence(grade: str, scene: str = "plant", distortion: str = "blur") -> str:
    return f"a photo of a {scene} with {distortion} artifacts, which is of {grade} quality"


def test_there_is_a_sentence_for_every_grade_scene_and_distortion():
    assert len(set(joint_sentences())) == COUNT == 495
    assert "a photo of a night with noise artifacts, which is of perfect quality" in joint_sentences()


@pytest.mark.parametrize(("grade", "expected"), list(zip(GRADES, (0, 0.25, 0.5, 0.75, 1), strict=True)))
def test_an_image_that_is_one_sentence_has_its_grade(grade, expected):
    prompts = JointPrompts(torch.eye(COUNT), scale=100.0)
    for scene, distortion in (("plant", "blur"), ("others", "other"), ("animal", "jpeg2000 compression")):
        assert prompts.quality(views_that_see(sentence(grade, scene, distortion))) == pytest.approx(expected, abs=1e-9)


def test_the_marginal_by_hand():
    """At scale log 3 the sentence that is seen counts three times, the 494 others once."""
    prompts = JointPrompts(torch.eye(COUNT), scale=float(np.log(3)))
    per_grade = COUNT / len(GRADES)
    expected = (per_grade * (0 + 0.25 + 0.5 + 0.75 + 1) + 2 * 0.75) / (COUNT + 2)
    assert prompts.quality(views_that_see(sentence("good"))) == pytest.approx(expected, abs=1e-6)


def test_views_are_averaged_before_the_softmax():
    """Two views that see the best and the worst grade, both half as much as one alone would."""
    prompts = JointPrompts(torch.eye(COUNT), scale=100.0)
    best, worst = sentence("perfect"), sentence("bad", "night", "noise")
    assert prompts.quality(views_that_see(best, worst)) == pytest.approx(0.5)
    assert prompts.quality(views_that_see(best, best, worst)) == pytest.approx(1.0)
    assert prompts.quality(views_that_see(best, worst, worst)) == pytest.approx(0.0, abs=1e-9)


def test_sentences_are_open_clips_own(make_clip, make_backbone):
    backbone, clip = make_backbone(), make_clip()
    with torch.no_grad():
        text = torch.nn.functional.normalize(clip.encode_text(backbone.tokenize(joint_sentences())), dim=-1)
        views = torch.nn.functional.normalize(torch.randn(4, text.shape[1]), dim=-1)
        probabilities = (clip.logit_scale.exp() * views @ text.T).mean(dim=0).softmax(dim=0).tolist()
    expected = sum(
        GRADES.index(words.split("of ")[-1].removesuffix(" quality")) / 4 * p
        for words, p in zip(joint_sentences(), probabilities, strict=True)
    )
    assert JointPrompts.of(backbone).quality(views) == pytest.approx(expected, abs=1e-4)
