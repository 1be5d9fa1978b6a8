"""Training steps: what moves when, and a resumed run is the run itself."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.model.settings import EMBEDDED
from grmp_core.nano.crops import CropBatches
from grmp_core.nano.sentences import draw_sentences, used_tokens
from grmp_core.nano.trainable_clip import TrainableClip
from grmp_core.nano.trainer import TrainConfig, Trainer, rate
from tests.grmp_core.nano.conftest import CLASS_WORDS, SMALL_BATCH

CONFIG = TrainConfig(warmup_steps=1, head_start_steps=1, filter_every=2, pairs_per_step=2, classes_per_step=8)
STEM = "clip.visual.trunk.patch_embed."


@pytest.fixture(scope="module")
def tokenize():
    return open_clip.get_tokenizer(EMBEDDED)


@pytest.fixture(scope="module")
def batches(store, content) -> CropBatches:
    return CropBatches(store, content, np.arange(len(store)), SMALL_BATCH, 0, 100)


def make_trainer(tokenize, average=None, **changes) -> Trainer:
    model = TrainableClip(used_tokens(tokenize, CLASS_WORDS), None, seed=0)
    config = TrainConfig(**{**vars(CONFIG), **changes})
    return Trainer(model, CLASS_WORDS, tokenize, config, 3, torch.float32, average)


def snapshot(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def test_a_resumed_run_ends_with_the_same_weights_to_the_last_bit(tokenize, store, content):
    crops = replace(SMALL_BATCH, triplets=2)
    batches = CropBatches(store, content, np.arange(len(store)), crops, 0, 100)
    whole = make_trainer(tokenize, triplet_weight=1.0)
    for step in range(2):
        whole.train_step(batches[step], step / 4)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    whole.train_step(batches[2], 0.5)
    resumed = make_trainer(tokenize, triplet_weight=1.0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    resumed.train_step(batches[2], 0.5)
    for mine, theirs in ((resumed, whole), (resumed.averaged_model(), whole.averaged_model())):
        a, b = (m.model if isinstance(m, Trainer) else m for m in (mine, theirs))
        for (name, tensor), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.equal(tensor, other), name


def test_triplets_weigh_in_the_objective_only_where_they_are_asked_for(tokenize, store, content):
    crops = replace(SMALL_BATCH, triplets=2)
    batch = CropBatches(store, content, np.arange(len(store)), crops, 0, 100)[0]
    trainers = [make_trainer(tokenize, triplet_weight=weight) for weight in (0.0, 1.0)]
    losses = [trainer.train_step(batch, 0.0) for trainer in trainers]
    assert losses[1].pop("triplets") > 0
    assert losses[0] == losses[1]  # of the same weights, before the step
    a, b = map(snapshot, trainers)
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_what_moves_in_which_step(tokenize, batches):
    trainer = make_trainer(tokenize)
    before = snapshot(trainer)
    moved = []
    for step in range(3):  # head start, pointwise weights only, everything
        trainer.train_step(batches[step], 0.0)
        after = snapshot(trainer)
        moved.append({name for name in after if not torch.equal(before[name], after[name])})
        before = after
    early = {name for name in before if name.startswith((STEM + "first", STEM + "stages.0", STEM + "stages.1.0."))}
    stem = {name for name in before if name.startswith(STEM + "stages")} - early
    assert not moved[0] & stem
    assert {name for name in stem if name.endswith(("expand.weight", "narrow.weight"))} == moved[1] & stem
    assert moved[2] & stem == stem
    for names in moved:
        assert not names & early
        assert {"rows_UD", "clip.logit_scale", "clip.visual.trunk.blocks.0.attn.in_proj_weight"} <= names


def test_training_lowers_the_loss_of_a_batch(tokenize, batches):
    trainer = make_trainer(tokenize, head_start_steps=0, prompted=0.0)
    losses = [trainer.train_step(batches[0], 0.0) for _ in range(4)]
    assert losses[-1]["pairs"] + losses[-1]["types"] < losses[0]["pairs"] + losses[0]["types"]


def test_two_workers_take_the_step_of_their_mean_gradient(tokenize, batches):
    seen: list[torch.Tensor] = []
    alone = make_trainer(tokenize, lambda flat: seen.append(flat.clone()))
    alone.train_step(batches[0], 0.0)
    other = make_trainer(tokenize, lambda flat: seen.append(flat.clone()))
    other.train_step(batches[1], 0.0)
    mean = (seen[0] + seen[1]) / 2
    workers = [make_trainer(tokenize, lambda flat: flat.copy_(mean)) for _ in range(2)]
    for number, worker in enumerate(workers):
        worker.train_step(batches[number], 0.0)
    a, b = map(snapshot, workers)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_exported_weights_are_open_clips_and_come_back(tokenize, batches):
    trainer = make_trainer(tokenize)
    trainer.train_step(batches[0], 0.0)
    state = trainer.averaged_model().export_state()
    assert all(t.dtype == torch.float16 for t in state.values() if t.is_floating_point())
    clip = trainer.model.clip
    clip.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
    again = TrainableClip(used_tokens(tokenize, CLASS_WORDS), None, seed=1)
    again.load_exported(state)
    tokens = tokenize(["a photo with jpeg compression"])
    found = again.eval().text_features(tokens)
    expected = torch.nn.functional.normalize(clip.encode_text(tokens), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_words_that_are_new_keep_a_random_row(tokenize):
    model = TrainableClip(used_tokens(tokenize, CLASS_WORDS), None, seed=0)
    state = model.export_state()
    wider = TrainableClip(used_tokens(tokenize, [*CLASS_WORDS, "zeppelin"]), None, seed=1)
    new = wider.row_of_token[tokenize(["zeppelin"])[0, 1]]
    before = wider.rows_UD.detach().clone()
    wider.load_exported(state)
    assert torch.equal(wider.rows_UD[new], before[new])
    old = wider.row_of_token[tokenize(["quality"])[0, 1]]
    assert not torch.equal(wider.rows_UD[old], before[old])


def test_a_token_that_no_sentence_of_training_has_is_refused(tokenize):
    model = TrainableClip(used_tokens(tokenize, CLASS_WORDS), None)
    with pytest.raises(InputError, match="not in the table of used tokens"):
        model.text_features(tokenize(["a zeppelin"]))


def test_learned_context_takes_the_place_of_the_placeholders(tokenize):
    model = TrainableClip(used_tokens(tokenize, CLASS_WORDS), None).eval()
    tokens = tokenize(["x x high quality.", "x x high quality."])
    row = model.rows_UD[model.row_of_token[tokenize(["x"])[0, 1]]].detach()
    context = torch.full((2, 2, len(row)), torch.nan)
    context[0] = row
    same = model.text_features(tokens, context)
    torch.testing.assert_close(same[0], same[1])
    context[0] = row.flip(0)
    assert not torch.allclose(model.text_features(tokens, context)[0], same[1], atol=1e-3)


def test_sentences_hold_every_family_and_the_likeliest_classes(tokenize):
    classes = np.zeros((2, len(CLASS_WORDS)), np.float32)
    classes[0, 5] = classes[1, 11] = 1
    sentences = draw_sentences(np.random.default_rng(0), CLASS_WORDS, classes, 6, 3)
    assert {5, 11} <= set(sentences.classes.tolist())
    assert len(set(sentences.classes.tolist())) == 6
    stops = [place.stop for place in sentences.places.values()]
    assert stops[-1] == len(sentences.texts)
    assert sentences.places["pairs"] == slice(0, 6)
    tokens = set(tokenize(sentences.texts).unique().tolist()) - {0}
    assert tokens <= set(used_tokens(tokenize, CLASS_WORDS).tolist())


def test_the_rate_rises_and_falls():
    assert rate(0, 0, 10) == pytest.approx(0.1)
    assert rate(9, 0, 10) == pytest.approx(1)
    assert rate(100, 0.5, 10) == pytest.approx(0.5)
    assert rate(100, 1, 10) == pytest.approx(0)


def test_a_share_or_a_stride_out_of_range_is_refused():
    with pytest.raises(InputError, match="prompted"):
        TrainConfig(prompted=1.5)
    with pytest.raises(InputError, match="filter_every"):
        TrainConfig(filter_every=0)
