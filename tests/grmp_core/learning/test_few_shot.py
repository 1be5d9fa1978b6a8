"""Adaptation against the plain reference, and the rules of choosing an epoch."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from grmp_core.errors import InputError, NonFiniteLossError
from grmp_core.learning import few_shot as module
from grmp_core.learning.calibration import SCALE_BOUNDS
from grmp_core.learning.few_shot import (
    AdaptationBatch,
    adapt,
    adaptation_step,
    calibrated_start,
    predict_quality,
    train,
    validate,
    validation_curve,
)
from grmp_core.learning.gradient_projection import regularize
from grmp_core.learning.labelled_views import prepare_views
from grmp_core.learning.losses import quality_loss
from grmp_core.learning.settings import AdaptConfig, QgrConfig
from grmp_core.model.adapting_parts import CALIBRATION
from grmp_core.model.predictor import Predictor
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import PromptConfig, TrainableConfig
from tests.reference import PlainModel, plain_adaptation_gradients, split_prompts

TRAINABLE = TrainableConfig(vision_blocks=1, text_blocks=1)
PROMPTS = PromptConfig(visual_tokens=5)


def images(count: int, views: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, views, 32, 32, 3), dtype=np.uint8)


def setting(make_backbone, precision="fp32", count=12):
    model = QualityModel(make_backbone(), PROMPTS, precision=precision, trainable=TRAINABLE)
    start = model.prompt_parameters()
    quality = np.linspace(0.1, 0.9, count)
    ids = [f"ref{i}" for i in range(count)]
    return model, start, prepare_views(model, start, images(count, 2), images(count, 3), quality, ids)


def whole_batch(views) -> AdaptationBatch:
    rows = torch.arange(len(views))
    return AdaptationBatch.gather(views, rows, torch.zeros(len(views), dtype=torch.long))


@pytest.mark.parametrize(("precision", "tolerance", "overall"), [("fp32", 2e-4, 2e-5), ("bf16", 1.0, 0.1)])
def test_a_step_is_the_plain_references_step(make_backbone, make_clip, precision, tolerance, overall):
    """Tensor by tensor and as a whole. In bf16 the student starts so near to the teacher that the direction of small
    tensors' semantic gradients is rounding in part: there only the whole is held to much."""
    model, start, views = setting(make_backbone, precision)
    parameters = model.adaptable_parameters(start)
    config = AdaptConfig(lr=1.0, weight_decay=0.0, qgr=QgrConfig(strength=5.0))
    stepped, record = adaptation_step(model, parameters, whole_batch(views), config)

    backbone = make_backbone()
    arguments = (backbone.tokenize, backbone.mean, backbone.std, 4, PROMPTS.phrases)
    student, teacher = PlainModel(make_clip(), *arguments), PlainModel(make_clip(), *arguments)
    prompts, context = split_prompts(start)
    names = [n.removeprefix("clip.") if n.startswith("clip.") else "context" for n in parameters]
    quality_gradients, semantic_gradients = plain_adaptation_gradients(
        student, teacher, torch.from_numpy(images(12, 2)[:, 0]), views.quality_N, prompts, context, names
    )
    expected, report = regularize(quality_gradients, semantic_gradients, config.qgr)
    differences, scales = [], []
    for ours, plain in zip(parameters, names, strict=True):
        differences.append((parameters[ours] - stepped[ours] - expected[plain]).norm())
        scales.append(expected[plain].norm() + quality_gradients[plain].norm() + 1e-3)
        assert differences[-1] <= tolerance * scales[-1], ours
    assert torch.stack(differences).norm() <= overall * torch.stack(scales).norm()
    assert record[2] == pytest.approx(report.angle_deg, abs=0.05 if precision == "fp32" else 5)


def test_both_gradients_come_from_one_forward_pass(make_backbone, monkeypatch):
    model, start, views = setting(make_backbone)
    calls = []
    plain = QualityModel.forward
    monkeypatch.setattr(QualityModel, "forward", lambda self, *a, **k: calls.append(1) or plain(self, *a, **k))
    adaptation_step(model, model.adaptable_parameters(start), whole_batch(views), AdaptConfig())
    assert calls == [1]


def test_lambda_zero_is_plain_descent_and_skips_the_semantic_gradient(make_backbone):
    model, start, views = setting(make_backbone)
    parameters = model.adaptable_parameters(start)
    config = AdaptConfig(lr=0.5, weight_decay=0.0, qgr=QgrConfig(strength=0.0))
    stepped, (_, semantic, angle, share) = adaptation_step(model, parameters, whole_batch(views), config)
    leaves = {n: t.clone().requires_grad_() for n, t in parameters.items()}
    logits = model.predict(leaves, views.train_tokens_NVTD[:, 0], start_block=model.first_adapting_block)[0]
    quality_loss(logits, views.quality_N).backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(stepped[name], parameters[name] - 0.5 * leaf.grad)
    assert math.isnan(semantic)
    assert math.isnan(angle)
    assert share == 0


def test_training_lowers_the_loss_and_leaves_the_start_alone(make_backbone):
    model, start, views = setting(make_backbone)
    parameters = model.adaptable_parameters(start)
    before = {name: tensor.clone() for name, tensor in parameters.items()}
    config = AdaptConfig(lr=0.05, qgr=QgrConfig(strength=0.0))
    losses = [record.quality_loss for record, _ in train(model, parameters, views, config, seed=0, epochs=15)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(parameters[name], before[name]) for name in parameters)


def test_same_seed_same_model_other_seed_other_model(make_backbone):
    model, start, views = setting(make_backbone)
    config = AdaptConfig(epochs=3, lr=0.05, batch_size=4)
    results = [adapt(model, model.adaptable_parameters(start), views, config, seed) for seed in (1, 1, 2)]
    first, again, other = (result.parameters["text_prompt.context_MD"] for result in results)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_epoch_with_the_best_held_out_srcc_is_kept(make_backbone, monkeypatch):
    model, start, views = setting(make_backbone)
    quality = views.quality_N.numpy()

    def curve(model, start, views, config, seed, folds):
        for epoch, sign in ((1, -1.0), (2, 1.0), (3, 0.0)):  # constant predictions have no SRCC
            yield epoch, [sign * quality[held_out] for _, held_out in folds]

    monkeypatch.setattr(module, "held_out_curve", curve)
    result = adapt(model, model.adaptable_parameters(start), views, AdaptConfig(epochs=3), seed=0)
    assert result.epochs == 2
    assert result.val_srcc == pytest.approx(1.0)
    assert len(result.history) == 2
    assert result.val_srcc_by_epoch[0] == (1, pytest.approx(-1.0))
    np.testing.assert_array_equal(result.held_out_N, quality.astype(np.float64))


def test_labels_count_by_their_weights_and_alike_without_them(make_backbone):
    model, start, views = setting(make_backbone)
    parameters = model.adaptable_parameters(start)
    config = AdaptConfig(lr=1.0, qgr=QgrConfig(strength=0.0))

    def stepped(weight_N):
        batch = whole_batch(dataclasses.replace(views, weight_N=weight_N))
        return adaptation_step(model, parameters, batch, config)[0]["text_prompt.context_MD"]

    one_counts = torch.full((12,), 1e-9)
    one_counts[4] = 1.0
    alone = AdaptationBatch.gather(views, torch.tensor([4]), torch.tensor([0]))
    expected = adaptation_step(model, parameters, alone, config)[0]["text_prompt.context_MD"]
    torch.testing.assert_close(stepped(one_counts), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(stepped(torch.full((12,), 0.3)), stepped(None), atol=1e-5, rtol=1e-4)
    weighted = dataclasses.replace(views, weight_N=torch.arange(12.0))
    assert weighted.subset(np.array([3, 7])).weight_N.tolist() == [3, 7]


@pytest.mark.parametrize("folds", [1, 3])
def test_no_image_is_predicted_by_a_model_that_was_trained_on_it(make_backbone, monkeypatch, folds):
    model, start, views = setting(make_backbone)
    trained, seen = [], []
    plain = module.train

    def spy(model, start, part, config, seed, epochs):
        for record, parameters in plain(model, start, part, config, seed, epochs):
            trained.append((parameters, set(part.reference_ids)))
            yield record, parameters

    def predict(model, parameters, tokens, batch_size=64):
        rows = [int((views.score_tokens_NGTD == one).flatten(1).all(1).nonzero()[0]) for one in tokens]
        [trained_on] = [ids for trained_parameters, ids in trained if trained_parameters is parameters]
        assert not trained_on & {views.reference_ids[row] for row in rows}
        seen.extend(rows)
        return torch.rand(len(tokens))

    monkeypatch.setattr(module, "train", spy)
    monkeypatch.setattr(module, "predict_quality", predict)
    adapt(model, model.adaptable_parameters(start), views, AdaptConfig(epochs=1, folds=folds), seed=0)
    assert trained[-1][1] == set(views.reference_ids)  # the model that is kept has seen every label
    assert sorted(seen) == list(range(12)) if folds == 3 else 0 < len(seen) < 12


def test_scoring_averages_the_views(make_backbone):
    model, start, views = setting(make_backbone)
    parameters = model.adaptable_parameters(start)
    quality = predict_quality(model, parameters, views.score_tokens_NGTD, batch_size=5)
    single = [predict_quality(model, parameters, views.score_tokens_NGTD[:, g : g + 1]) for g in range(3)]
    torch.testing.assert_close(quality, torch.stack(single).mean(dim=0))


def test_equal_pictures_get_equal_qualities_in_a_last_batch_too(make_backbone):
    model, start, views = setting(make_backbone)
    parameters = model.adaptable_parameters(start)
    for count in (7, 10, 11, 13):
        equal = views.score_tokens_NGTD[:1, :1].expand(count, 1, *views.score_tokens_NGTD.shape[2:])
        quality = predict_quality(model, parameters, equal, batch_size=5)
        assert len(quality) == count
        assert len(quality.unique()) == 1


def test_frozen_prompts_act_in_adapting_blocks_as_in_the_finished_model(make_backbone):
    model = QualityModel(make_backbone(), PROMPTS, trainable=TRAINABLE)
    generator = torch.Generator().manual_seed(4)
    learned = {n: t + 0.3 * torch.randn(t.shape, generator=generator) for n, t in model.prompt_parameters().items()}
    model.put(learned)
    pictures = images(5, 1)
    views = prepare_views(model, learned, pictures, pictures, np.zeros(5), list("abcde"))
    during = predict_quality(model, model.adaptable_parameters(learned), views.score_tokens_NGTD)
    finished = Predictor(QualityModel(make_backbone(), PROMPTS), learned)
    torch.testing.assert_close(during, finished(torch.from_numpy(pictures[:, 0])))


def test_a_loss_that_is_not_finite_names_epoch_and_batch(make_backbone):
    model, start, views = setting(make_backbone)
    broken = dataclasses.replace(views, quality_N=torch.full((12,), math.nan))
    with pytest.raises(NonFiniteLossError, match="epoch 1, batch 0"):
        list(train(model, model.adaptable_parameters(start), broken, AdaptConfig(), seed=0, epochs=1))


def test_a_prediction_that_is_not_finite_ends_the_validation(make_backbone):
    model, start, views = setting(make_backbone)
    views.score_tokens_NGTD[3] = math.nan
    with pytest.raises(NonFiniteLossError, match="epoch 1: a predicted quality"):
        list(validation_curve(model, model.adaptable_parameters(start), views, AdaptConfig(epochs=1), seed=0))


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"folds": 0}, {"lr": -1.0}, {"weight_decay": math.inf}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError):
        AdaptConfig(**bad)


def test_a_calibrated_adaptation_starts_at_the_labels_mean_and_keeps_the_order(make_backbone):
    trainable = dataclasses.replace(TRAINABLE, calibration=True)
    model = QualityModel(make_backbone(), PROMPTS, trainable=trainable)
    prompts = model.prompt_parameters()
    quality = np.linspace(0.6, 0.9, 12)
    ids = [f"ref{i}" for i in range(12)]
    views = prepare_views(model, prompts, images(12, 2), images(12, 3), quality, ids)
    start = model.adaptable_parameters(prompts)
    calibrated = calibrated_start(model, start, views)
    before, after = (predict_quality(model, p, views.score_tokens_NGTD).numpy() for p in (start, calibrated))
    assert abs(after.mean() - quality.mean()) < 0.01 < abs(before.mean() - quality.mean())
    assert (np.argsort(after) == np.argsort(before)).all()
    config = AdaptConfig(epochs=2, folds=2, lr=0.05, loss="concordance", trainable=trainable)
    result = adapt(model, start, views, config, seed=0)
    assert result.parameters[CALIBRATION].tolist() != [1.0, 0.0]
    expected = predict_quality(model, result.parameters, views.score_tokens_NGTD)
    predictor = Predictor(model, {**prompts, **result.parameters})
    scored = torch.stack([predictor(torch.from_numpy(v)).mean() for v in images(12, 3)])
    torch.testing.assert_close(scored, expected, rtol=0, atol=1e-5)


def test_no_label_turns_the_calibrated_order_around(make_backbone):
    """Labels in the opposite order of the start's scores: plain descent would make the calibration's scale negative."""
    trainable = dataclasses.replace(TRAINABLE, calibration=True)
    model = QualityModel(make_backbone(), PROMPTS, trainable=trainable)
    prompts = model.prompt_parameters()
    ids = [f"ref{i}" for i in range(12)]
    views = prepare_views(model, prompts, images(12, 1), images(12, 1), np.zeros(12), ids)
    start = model.adaptable_parameters(prompts)
    scores_N = predict_quality(model, start, views.score_tokens_NGTD)
    views = dataclasses.replace(views, quality_N=1 - scores_N.argsort().argsort() / 11)
    batch, config = whole_batch(views), AdaptConfig(lr=1e-3, loss="concordance", qgr=QgrConfig(strength=0.0))
    slope = (start[CALIBRATION] - adaptation_step(model, start, batch, config)[0][CALIBRATION])[0] / config.lr
    assert slope > 0
    far = dataclasses.replace(config, lr=float(2 / slope))
    stepped, _ = adaptation_step(model, start, batch, far)
    assert stepped[CALIBRATION][0] == pytest.approx(SCALE_BOUNDS[0])


def test_a_validation_that_is_given_is_not_done_again(make_backbone, monkeypatch):
    model, start, views = setting(make_backbone)
    begin, config = model.adaptable_parameters(start), AdaptConfig(epochs=2, folds=2, lr=0.01)
    whole = adapt(model, begin, views, config, 3)
    kept = validate(model, begin, views, config, 3)
    monkeypatch.setattr(module, "held_out_curve", lambda *_: pytest.fail("validated again"))
    again = adapt(model, begin, views, config, 3, validation=kept)
    assert all(torch.equal(again.parameters[name], tensor) for name, tensor in whole.parameters.items())
    assert (again.epochs, again.val_srcc_by_epoch) == (whole.epochs, whole.val_srcc_by_epoch)
    np.testing.assert_array_equal(again.held_out_N, whole.held_out_N)


def test_the_model_before_holds_the_order_that_labels_would_turn(make_backbone):
    """Labels that contradict the start's order: without it they win, with it the order stays nearer."""
    model, start, views = setting(make_backbone)
    begin = model.adaptable_parameters(start)
    tokens = views.train_tokens_NVTD

    def margin(parameters) -> torch.Tensor:
        logits = model.predict(parameters, tokens[:, 0], start_block=model.first_adapting_block).quality_logits_BK
        return (logits[:, 0] - logits[:, 1]).detach()

    before = torch.stack([margin(begin)] * tokens.shape[1], dim=1)
    turned = dataclasses.replace(views, quality_N=(-margin(begin)).argsort().argsort() / 12)
    config = AdaptConfig(loss="pairs", lr=0.02, qgr=QgrConfig(strength=0), distillation=50.0)
    after = {}
    for name, held in (("free", None), ("held", before)):
        *_, (_, parameters) = train(model, begin, dataclasses.replace(turned, before_NV=held), config, 0, 8)
        after[name] = float(np.corrcoef(margin(parameters), margin(begin))[0, 1])
    assert after["held"] > after["free"] + 0.05
