"""The training maths against closed forms, and a tiny run: it learns, resumes to the bit, exports what it learned."""

import dataclasses
import math

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from grmp_core.errors import InputError
from grmp_core.nano import captions
from grmp_core.nano.caption_model import CaptionModel, used_tokens, whitening_filters
from grmp_core.nano.caption_training import (
    Batch,
    FamilyCaptions,
    TrainConfig,
    Trainer,
    family_losses,
    one_hot_where_known,
    pair_loss,
    ranking_loss,
    rate,
    soft_caption_loss,
)

TYPES = ("jpeg", "white_noise")
WORDS = ["tench", "daisy"]
TOKENIZE = open_clip.SimpleTokenizer(context_length=32)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_model(seed: int = 0) -> CaptionModel:
    torch.manual_seed(seed)
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16, "pool_type": "avg"}
    text = {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    clip = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    tokens = used_tokens(TOKENIZE, captions.all_captions(TYPES, WORDS))
    return CaptionModel(clip, tokens, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def tiny_trainer(average=None, **options) -> Trainer:
    config = TrainConfig(warmup_steps=5, learning_rate=3e-3, **options)
    families = FamilyCaptions(TYPES, WORDS, config)
    return Trainer(tiny_model(), families, TOKENIZE, config, seed=1, dtype=torch.float32, average=average)


def noisy_batch(seed: int, num_images: int = 16) -> Batch:
    """Grey images with noise; the more of it, the lower the quality."""
    generator = torch.Generator().manual_seed(seed)
    quality = torch.rand(num_images, generator=generator)
    noise = torch.randn(num_images, 32, 32, 3, generator=generator)
    images = (128 + 60 * (1 - quality).view(-1, 1, 1, 1) * noise).clamp(0, 255).to(torch.uint8)
    types = torch.tensor([0.0, 1.0, 0.0]).repeat(num_images, 1)
    severities = torch.zeros(num_images, 5 * len(TYPES) + 1)
    severities[:, 5:10] = torch.from_numpy(captions.severity_targets(1 + 4 * (1 - quality.numpy())))
    unknown = torch.full((num_images,), -1)
    attributes = quality[:, None].expand(-1, len(captions.ATTRIBUTE_PAIRS))
    return Batch(images, quality, quality, attributes, types, severities, torch.arange(num_images) % 3 - 1, unknown)


def test_soft_caption_loss_is_torchs_cross_entropy_over_the_known_rows():
    logits, targets = torch.randn(5, 4), torch.rand(5, 4)
    targets /= targets.sum(dim=1, keepdim=True)
    targets[3] = 0
    known = [0, 1, 2, 4]
    torch.testing.assert_close(soft_caption_loss(logits, targets), F.cross_entropy(logits[known], targets[known]))


def test_soft_caption_loss_is_zero_with_a_zero_gradient_where_nothing_is_known():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = soft_caption_loss(logits, torch.zeros(3, 4))
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(logits.grad.abs().sum()) == 0


def test_pair_loss_is_binary_cross_entropy_of_the_logit_difference():
    logits = torch.randn(6, 3, 2)
    difference = logits[..., 0] - logits[..., 1]
    for quality in (torch.rand(6, 3), torch.rand(6, 1)):
        expected = F.binary_cross_entropy_with_logits(difference, quality.expand(6, 3))
        torch.testing.assert_close(pair_loss(logits, quality), expected)


def test_every_family_is_held_against_its_own_target():
    batch = noisy_batch(0, 4)
    rng = np.random.default_rng(0)
    apart = dataclasses.replace(
        batch,
        quality_B=torch.rand(4),
        fidelity_B=torch.rand(4),
        attributes_BA=torch.rand(4, batch.attributes_BA.shape[1]),
    )
    families = FamilyCaptions(TYPES, WORDS, TrainConfig())
    texts, places, present = families.draw(rng, apart)
    logits = torch.randn(4, len(texts))
    losses = family_losses(logits, apart, places, present, TrainConfig())

    def asked(name: str, targets: torch.Tensor) -> torch.Tensor:
        good, bad = logits[:, places[name]].unflatten(1, (-1, 2)).unbind(-1)
        return F.binary_cross_entropy_with_logits(good - bad, targets.expand_as(good))

    torch.testing.assert_close(losses["pairs"], asked("pairs", apart.quality_B[:, None]))
    torch.testing.assert_close(losses["fidelity"], asked("fidelity", apart.fidelity_B[:, None]))
    torch.testing.assert_close(losses["attributes"], asked("attributes", apart.attributes_BA))


def test_ranking_loss_of_two_images_by_hand_and_its_minimum():
    quality = torch.tensor([0.8, 0.6])
    certainty = 1 / (1 + math.exp(-2))
    at_zero = ranking_loss(torch.zeros(2), quality, 0.1)
    at_best = ranking_loss(torch.tensor([2.0, 0.0]), quality, 0.1)
    assert float(at_zero) == pytest.approx(math.log(2))
    assert float(at_best) == pytest.approx(-certainty * math.log(certainty) - (1 - certainty) * math.log(1 - certainty))
    scores = torch.tensor([2.0, 0.0], requires_grad=True)
    ranking_loss(scores, quality, 0.1).backward()
    torch.testing.assert_close(scores.grad, torch.zeros(2), atol=1e-6, rtol=0)


def test_one_hot_where_known():
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(one_hot_where_known(torch.tensor([1, -1]), 3), expected)


def test_rate_rises_then_falls_to_nothing():
    assert rate(0, 0.0, 10) == pytest.approx(0.1)
    assert rate(100, 0.0, 10) == pytest.approx(1)
    assert rate(100, 0.5, 10) == pytest.approx(0.5)
    assert rate(100, 1.0, 10) == pytest.approx(0)
    assert rate(100, 1.7, 10) == pytest.approx(0)


def test_whitening_filters_give_unit_variance_and_no_correlation():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    covariance = mixing @ mixing.T
    filters = whitening_filters(covariance, 6, generator, floor=1e-9).double()
    torch.testing.assert_close(filters @ covariance @ filters.T, torch.eye(6).double(), atol=1e-5, rtol=0)


def test_whitening_filters_start_with_the_axis_of_largest_variance():
    covariance = torch.diag(torch.tensor([1.0, 9.0, 4.0, 0.25, 0.5, 0.75]))
    first = whitening_filters(covariance, 3, torch.Generator().manual_seed(0))[0].abs()
    torch.testing.assert_close(first, torch.tensor([0, 1 / 3, 0, 0, 0, 0]), atol=1e-4, rtol=0)


def test_two_workers_that_average_take_the_step_of_one_with_both_batches():
    weights = {**TrainConfig().weights, "ranking": 0.0}  # which compares inside a batch

    def batch_of(*seeds: int) -> Batch:
        parts = [dataclasses.replace(noisy_batch(seed), classes_B=torch.full((16,), -1)) for seed in seeds]
        columns = zip(*([getattr(part, f.name) for f in dataclasses.fields(Batch)] for part in parts), strict=True)
        return Batch(*(torch.cat(column) for column in columns))

    gradients: list[torch.Tensor] = []
    for seed in (0, 1):
        tiny_trainer(weights=weights, average=lambda flat: gradients.append(flat.clone())).train_step(batch_of(seed), 0)
    mean = torch.stack(gradients).mean(dim=0)
    worker = tiny_trainer(weights=weights, average=lambda flat: flat.copy_(mean))
    worker.train_step(batch_of(1), 0)
    alone = tiny_trainer(weights=weights)
    alone.train_step(batch_of(0, 1), 0)
    for name, tensor in alone.parameters.items():
        torch.testing.assert_close(worker.parameters[name].grad, tensor.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("prompted", "expected"), [(1.0, 6), (0.0, 0)])
def test_the_tower_sees_new_random_prompts_in_the_asked_share_of_the_steps(monkeypatch, prompted, expected):
    seen = []
    plain = CaptionModel.image_features

    def spy(self, images_BHWC, kept_N=None, prompts_LVD=None):
        if prompts_LVD is not None:
            seen.append(prompts_LVD)
        return plain(self, images_BHWC, kept_N, prompts_LVD)

    monkeypatch.setattr(CaptionModel, "image_features", spy)
    trainer = tiny_trainer(prompted=prompted)
    for step in range(6):
        trainer.train_step(noisy_batch(step, 4), 0.0)
    assert len(seen) == expected
    assert all(prompts.shape[0] == len(trainer.model.clip.visual.transformer.resblocks) for prompts in seen)
    assert len({float(prompts.sum()) for prompts in seen}) == expected, "the same prompts again"


def test_training_lowers_every_loss_and_learns_to_rank_unseen_noise():
    trainer = tiny_trainer(keep_fraction=0.5, full_from=0.5, prompted=0.0)
    first = trainer.train_step(noisy_batch(0), 0.0)
    for step in range(1, 100):
        last = trainer.train_step(noisy_batch(step), step / 100)
    assert last["pairs"] < first["pairs"]
    assert last["ranking"] < first["ranking"]
    assert last["severities"] < first["severities"]
    model, unseen = trainer.averaged_model(), noisy_batch(999, 64)
    with torch.no_grad():
        image, text = model(unseen.images_BHWC, TOKENIZE(list(captions.CANONICAL_PAIR)))
    predicted = (image @ (text[0] - text[1])).numpy()
    assert np.corrcoef(np.argsort(np.argsort(predicted)), unseen.quality_B.numpy())[0, 1] > 0.8


def test_a_resumed_run_ends_with_the_same_weights_to_the_last_bit(tmp_path):
    whole, first = tiny_trainer(), tiny_trainer()
    for step in range(6):
        whole.train_step(noisy_batch(step), step / 6)
    for step in range(3):
        first.train_step(noisy_batch(step), step / 6)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = tiny_trainer()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(3, 6):
        second.train_step(noisy_batch(step), step / 6)
    for name, tensor in whole.parameters.items():
        assert torch.equal(tensor, second.parameters[name]), name
        assert torch.equal(whole.average[name], second.average[name]), name


def test_a_loss_that_is_not_finite_stops_before_the_update():
    trainer = tiny_trainer()
    before = {name: tensor.detach().clone() for name, tensor in trainer.parameters.items()}
    batch = noisy_batch(0)
    batch.quality_B[0] = math.nan
    with pytest.raises(FloatingPointError, match="step 0"):
        trainer.train_step(batch, 0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.parameters.items())


def test_export_has_zero_rows_for_unused_tokens_and_the_same_text_features_as_open_clip():
    model = tiny_model()
    state = model.export_state()
    used = used_tokens(TOKENIZE, captions.all_captions(TYPES, WORDS))
    table = state["token_embedding.weight"]
    assert set(table.abs().sum(dim=1).nonzero().flatten().tolist()) == set(used.tolist())
    tokens = TOKENIZE(["high quality.", "a photo of a daisy"])
    expected = model.text_features(tokens)
    model.clip.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    actual = model.clip.encode_text(tokens, normalize=True)
    torch.testing.assert_close(actual, expected, atol=5e-3, rtol=0)


def test_image_features_with_all_patches_kept_are_open_clips():
    model = tiny_model()
    images = noisy_batch(0, 3).images_BHWC
    normalized = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    expected = model.clip.eval().encode_image(normalized, normalize=True)
    torch.testing.assert_close(model.image_features(images), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.image_features(images, torch.arange(4)), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(model.image_features(images, torch.arange(2)), expected, atol=1e-3)


def test_a_caption_with_an_unknown_token_is_refused():
    with pytest.raises(InputError, match="used tokens"):
        tiny_model().text_features(TOKENIZE(["a photo of a zeppelin"]))
