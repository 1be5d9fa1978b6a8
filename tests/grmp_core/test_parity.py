"""Against the published method, number by number: forward, gradients, and updates."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from grmp_core.learning.few_shot import AdaptationBatch, adaptation_step
from grmp_core.learning.gradient_projection import regularize
from grmp_core.learning.losses import quality_loss
from grmp_core.learning.meta_pretraining import Episode, MetaState, inner_loop, meta_train
from grmp_core.learning.settings import AdaptConfig, MetaConfig, QgrConfig
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scene_words import SCENES
from grmp_core.model.settings import PromptConfig, TrainableConfig
from tests import published
from tests.published import Published

NUM_TOKENS = 5
TRAINABLE = TrainableConfig(vision_blocks=2, text_blocks=2)
STRENGTH = 5.0


@pytest.fixture(params=[True, False], ids=["prompt_norm", "no norm"])
def pair(request, make_backbone, make_clip) -> tuple[QualityModel, dict[str, Tensor], Published]:
    """This package's model, prompts away from their initial values, and the published model with the same."""
    backbone = make_backbone()
    prompts = PromptConfig(visual_tokens=NUM_TOKENS, prompt_norm=request.param)
    model = QualityModel(backbone, prompts, trainable=TRAINABLE)
    generator = torch.Generator().manual_seed(3)
    learned = {n: t + 0.2 * torch.randn(t.shape, generator=generator) for n, t in model.prompt_parameters().items()}
    model.put(learned)
    theirs = Published(make_clip(), backbone.tokenize, backbone.mean, backbone.std, NUM_TOKENS, request.param)
    return model, learned, theirs.load(learned)


def views(count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))


def quality(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


POOR = 0.2 * quality(8)
"""Labels that pull the prediction down; 1 - POOR pulls it up, so that one of them agrees with the scenes' gradient."""


def distance(a: dict[str, Tensor], b: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """Of two results of learning, relative to how far they went from the start."""
    apart, gone = (sum(float((x[n] - y[n]).double().square().sum()) for n in start) for x, y in ((a, b), (b, start)))
    return (apart / gone) ** 0.5


def test_the_scene_words_are_the_published_ones():
    assert SCENES == published.SCENES


def test_logits_are_the_published_ones(pair):
    model, learned, theirs = pair
    with torch.no_grad():
        expected_quality, expected_scenes = theirs(views(6))
    actual = model.predict(learned, views(6), scenes=True)
    torch.testing.assert_close(actual.quality_logits_BK, expected_quality, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(actual.scene_logits_BS, expected_scenes, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(model.teacher_scene_logits(views(6)), theirs.teacher(views(6)), atol=2e-5, rtol=1e-5)
    start = model.first_adapting_block
    cached = model.predict(learned, model.prefix_tokens(learned, views(6), start), start_block=start)
    torch.testing.assert_close(cached.quality_logits_BK, expected_quality, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("pair", [True], indirect=True)
def test_a_published_norm_is_no_part_of_the_last_one(pair):
    model, learned, theirs = pair
    theirs.prompt_norm = None
    with torch.no_grad():
        without, _ = theirs(views(6))
    assert (model.predict(learned, views(6)).quality_logits_BK - without).abs().max() > 1e-2


@pytest.mark.parametrize("labels", [POOR, 1 - POOR], ids=["poor", "good"])
def test_gradients_signs_and_step_of_fine_tuning_are_the_published_ones(pair, labels):
    model, learned, theirs = pair
    teacher, parameters = copy.deepcopy(theirs), model.adaptable_parameters(learned)
    names = {ours: "ctx" if ours == "text_prompt.context_MD" else ours for ours in parameters}
    assert {"ctx", "clip.ln_final.weight", "clip.visual.ln_post.bias"} <= set(names.values())
    gradients = published.fine_tuning_gradients(theirs, teacher, views(8), labels, list(names.values()))
    for_quality, for_scenes = ({ours: actual[name] for ours, name in names.items()} for actual in gradients)
    start = model.first_adapting_block
    batch = AdaptationBatch(model.prefix_tokens(learned, views(8), start), model.teacher_scene_logits(views(8)), labels)

    def step(strength: float, lr: float = 1.0, weight_decay: float = 0.0) -> dict[str, Tensor]:
        config = AdaptConfig(lr=lr, weight_decay=weight_decay, qgr=QgrConfig(strength=strength))
        return adaptation_step(model, parameters, batch, config)[0]

    plain, regularized, decayed = step(0.0), step(STRENGTH), step(STRENGTH, lr=0.1, weight_decay=0.5)
    changed = []
    for name, before in parameters.items():
        expected, hit = published.project(for_quality[name], for_scenes[name], STRENGTH)
        close = 1e-3 * (for_quality[name].norm() + expected.norm())
        assert (before - plain[name] - for_quality[name]).norm() <= close, name
        assert (before - regularized[name] - expected).norm() <= close, name
        assert bool((plain[name] != regularized[name]).any()) == hit, name
        torch.testing.assert_close(decayed[name], before - 0.1 * (expected + 0.5 * before), atol=1e-5, rtol=1e-4)
        changed.append(hit)
    _, report = regularize(for_quality, for_scenes, QgrConfig(strength=STRENGTH))
    assert report.projected_share == pytest.approx(np.mean(changed))


def test_fine_tuning_is_compared_where_gradients_agree_and_where_they_do_not(pair):
    """Else the comparison above would say nothing of one of the two cases."""
    _, _, theirs = pair
    names = [n for n, _ in theirs.named_parameters() if "resblocks.2" in n]
    hits = []
    for labels in (POOR, 1 - POOR):
        actual = published.fine_tuning_gradients(copy.deepcopy(theirs), theirs, views(8), labels, names)
        hits += [published.project(actual[0][name], actual[1][name], STRENGTH)[1] for name in names]
    assert 0.1 < np.mean(hits) < 0.9


def episodes(outer_steps: int, inner_steps: int, tasks: int) -> list[list[Episode]]:
    def batches(*seed: int) -> list[tuple[Tensor, Tensor]]:
        number = 1000 * seed[0] + 100 * seed[1] + 10 * seed[2]
        return [(views(4, number + i), quality(4, number + i)) for i in range(inner_steps)]

    return [
        [Episode(f"task {t}", batches(s, t, 1), batches(s, t, 2)) for t in range(tasks)] for s in range(outer_steps)
    ]


@pytest.mark.parametrize("resync", ["task", "never"])
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_pre_training_moves_the_prompts_as_the_published_loop_does(pair, inner_steps, resync):
    model, learned, theirs = pair
    config = MetaConfig(
        outer_steps=2, inner_steps=inner_steps, batch_size=4, inner_lr=1e-3, outer_lr=0.5, resync=resync
    )
    drawn = episodes(2, inner_steps, tasks=3)

    def loss(parameters, images, labels):
        return quality_loss(model.predict(parameters, images).quality_logits_BK, labels)

    *_, (_, state) = meta_train(MetaState(0, learned), loss, lambda step: drawn[step], config)
    steps = [[(episode.support, episode.query) for episode in tasks] for tasks in drawn]
    repaired, as_published = (
        published.pretrain(copy.deepcopy(theirs), steps, 1e-3, 0.5, resync=repair) for repair in (True, False)
    )
    expected, other = (repaired, as_published) if resync == "task" else (as_published, repaired)
    assert state.parameters.keys() == expected.keys()
    assert distance(state.parameters, expected, learned) < 2e-3
    assert distance(state.parameters, other, learned) > 0.1


@pytest.mark.parametrize(("inner_steps", "same"), [(1, True), (3, False)])
def test_all_support_batches_before_all_query_batches_is_the_same_for_one_inner_step_only(pair, inner_steps, same):
    model, learned, theirs = pair
    ((episode,),) = episodes(1, inner_steps, tasks=1)
    expected = published.pretrain(theirs, [[(episode.support, episode.query)]], 1e-3, 1.0, resync=True)

    def loss(parameters, images, labels):
        return quality_loss(model.predict(parameters, images).quality_logits_BK, labels)

    config = MetaConfig(inner_steps=inner_steps, inner_lr=1e-3)
    in_a_row, _ = inner_loop(learned, loss, [*episode.support, *episode.query], config, "task")
    assert (distance(in_a_row, expected, learned) < 2e-3) == same
    assert distance(in_a_row, expected, learned) < 2e-3 or distance(in_a_row, expected, learned) > 0.02
