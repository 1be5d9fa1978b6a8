"""Steps of a stream, without Ray: what each method reads and leaves; a killed one ends as an undisturbed one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from grmp_core.confidence.domain import has_domain
from grmp_core.continual.gate import Gate
from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.identity import Identity
from grmp_core.imaging.views import ViewConfig, scoring_views, training_views, whole_grid
from grmp_core.learning.labelled_views import prepare_views
from grmp_core.model.bundle import LEARNED_FROM, Bundle, read_bundle
from grmp_core.model.ensemble import separated
from grmp_core.model.scorer import Scorer
from grmp_core.model.settings import BackboneConfig
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.configuration.continual import ContinualConfig, StreamMethod
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import EncodedTarget
from pipelines.few_shot.starting_model import adapting_model
from pipelines.streaming_sets import stream_step
from pipelines.streaming_sets.encoded_sets import EncodedSet
from pipelines.streaming_sets.stream_step import Step, learn, measure, method_adaptation

METHODS: tuple[StreamMethod, ...] = ("own_norms", "replay_free", "finetune", "joint")
COUNT, TESTED = 18, 6
SCALES = {"a": ScoreRange(mos_min=0, mos_max=100), "b": ScoreRange(mos_min=1, mos_max=5, higher_is_better=False)}


def config_of(backbone: BackboneConfig, method: StreamMethod) -> Config:
    adapt = dataclasses.replace(Config().adapt, epochs=2, folds=2, lr=0.02, batch_size=4)
    trainable = dataclasses.replace(adapt.trainable, vision_blocks=1, text_blocks=0, calibration=True)
    return Config(
        backbone=backbone,
        views=ViewConfig(train_views=2, score_grid=2),
        adapt=method_adaptation(dataclasses.replace(adapt, trainable=trainable), method),
        continual=ContinualConfig(method=method, centres=3),
    )


def pictures(name: str) -> list[np.ndarray]:
    """Noise that gets coarser: two sets of other colours."""
    rng = np.random.default_rng(len(name) + ord(name))
    middle = 60 if name == "a" else 170
    return [np.clip(middle + rng.normal(0, 3 * i + 1, (40, 44, 3)), 0, 255).astype(np.uint8) for i in range(COUNT)]


def encode(config: Config, start: Bundle, name: str, folder: Path) -> EncodedSet:
    """As `encode_target` does with Ray."""
    model = adapting_model(config, start, torch.device("cpu"))
    scale, quality = SCALES[name], np.linspace(0.9, 0.1, COUNT)
    train = [training_views(p, config.views, model.image_size_px, 0, str(i)) for i, p in enumerate(pictures(name))]
    score = [whole_grid(scoring_views(p, config.views, model.image_size_px), config.views) for p in pictures(name)]
    ids = tuple(f"{name}{i}" for i in range(COUNT))
    deep = has_domain(config.backbone.name, start.backbone_sha256)
    views = prepare_views(model, start.parameters, np.stack(train), np.stack(score), quality, ids, deep=deep)
    arrays = {"train_tokens": views.train_tokens_NVTD, "teacher_logits": views.teacher_logits_NVS}
    arrays |= {"score_tokens": views.score_tokens_NGTD, "statistics": views.statistics_NF}
    protocol = Protocol(splits=SplitTable(reference_ids=ids, test_fraction=TESTED / COUNT), quality_N=quality)
    encoded = EncodedTarget(
        image_path=ids,
        image_ids=ids,
        reference_ids=ids,
        perceptual_hashes=np.zeros(COUNT, dtype=np.uint64),
        mos=np.asarray(scale.to_mos(quality)),
        quality=quality,
        row=np.arange(COUNT),
        unreadable=(),
        protocol=protocol,
        held={n: t.numpy() for n, t in arrays.items()},
    )
    store = EncodedSet(locate(folder / name))
    store.write(Identity.of({"target": name}), encoded, protocol.parts(0), scale, "table")
    return store


@pytest.fixture(scope="module")
def start(unadapted_folder) -> Bundle:
    return read_bundle(locate(unadapted_folder))


@pytest.fixture(scope="module")
def sets(start, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name in SCALES:
        encode(config_of(start.backbone, "own_norms"), start, name, folder)
    return folder


def steps_of(start: Bundle, sets: Path, method: StreamMethod, folder: Path) -> list[Step]:
    found: list[Step] = []
    for number, name in enumerate(SCALES):
        config = config_of(start.backbone, method)
        step = Step(
            config=config,
            start=start,
            name=name,
            folder_uri=str(folder / name),
            before_uri=str(folder / "a" / "bundle") if number else None,
            set_uris=tuple(str(sets / each) for each in list(SCALES)[: number + 1]),
            identity=Identity.of({"method": method, "number": number}),
        )
        found.append(step)
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "bundle").iterdir())}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_gives_a_model_that_scores_and_names_its_stream(start, sets, tmp_path, method):
    first, second = steps_of(start, sets, method, tmp_path)
    learn(first)
    before, picture = files(tmp_path / "a"), pictures("b")[0]
    score = Scorer(read_bundle(first.folder.bundle), "a").score([picture])
    learn(second)
    assert files(tmp_path / "a") == before
    assert Scorer(read_bundle(first.folder.bundle), "a").score([picture]) == score
    after = read_bundle(second.folder.bundle)
    told = after.provenance[stream_step.STREAM]
    assert [one["set"] for one in told] == ["a", "b"]
    assert told[1]["model_before"] == read_bundle(first.folder.bundle).digest
    learned = {name for one in second.sets for name in one.facts()["train"]["image_id"]}
    assert set(after.provenance[LEARNED_FROM]) == learned
    assert len(learned) == 2 * (COUNT - TESTED)
    assert after.score_range == SCALES["b"]
    (whole,) = Scorer(after, "b").score([picture])
    assert 0 < whole.quality < 1
    assert whole.mos_scale_score == pytest.approx(5 - 4 * whole.quality)
    held_out = second.folder.read_predictions()
    by_hand = Scorer(after, "b").score([pictures("b")[int(path[1:])] for path in held_out["image_path"]])
    np.testing.assert_allclose(held_out["quality"], [one.quality for one in by_hand], atol=2e-5)
    np.testing.assert_allclose(held_out["mos_scale_score"], 5 - 4 * held_out["quality"], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_was_killed_goes_on_to_the_same_files(start, sets, tmp_path, method, monkeypatch):
    for step in steps_of(start, sets, method, tmp_path / "whole"):
        learn(step)
    first, second = steps_of(start, sets, method, tmp_path / "killed")
    learn(first)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stream_step, "adapt", die)
        with pytest.raises(KeyboardInterrupt):
            learn(second)
    assert not second.folder.bundle.list()
    assert (second.folder.root / "validation.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr(stream_step, "validate", die)  # it is on disk
        patched.setattr(type(second.folder), "finish", die)
        with pytest.raises(KeyboardInterrupt):
            learn(second)
    assert second.folder.result(second.identity) is None
    learn(second)
    assert second.folder.result(second.identity) is not None
    assert files(tmp_path / "killed" / "b") == files(tmp_path / "whole" / "b")


def copy_without_training_of_a(sets: Path, target: Path) -> Path:
    for name in SCALES:
        (target / name).mkdir(parents=True)
        for file in (sets / name).iterdir():
            if (name, file.name) != ("a", "train.safetensors"):
                (target / name / file.name).symlink_to(file)
    return target


@pytest.mark.parametrize("method", METHODS)
def test_only_joint_training_reads_an_earlier_set(start, sets, tmp_path, method):
    first, second = steps_of(start, sets, method, tmp_path / "all")
    learn(first)
    learn(second)
    gone = copy_without_training_of_a(sets, tmp_path / "gone")
    alone = dataclasses.replace(
        second, folder_uri=str(tmp_path / "gone-step"), set_uris=(str(gone / "a"), str(gone / "b"))
    )
    if method == "joint":
        with pytest.raises(InputError, match="set a: its train part is gone"):
            learn(alone)
    else:
        learn(alone)
        assert files(tmp_path / "gone-step") == files(tmp_path / "all" / "b")


def test_own_norms_keep_the_first_set_s_model_and_the_gate_tells_the_sets_apart(start, sets, tmp_path):
    first, second = steps_of(start, sets, "own_norms", tmp_path)
    learn(first)
    learn(second)
    one, two = (read_bundle(step.folder.bundle) for step in (first, second))
    (alone,), (kept, new) = separated(one.parameters), separated(two.parameters)
    assert all(torch.equal(alone[name], kept[name]) for name in alone)
    changed = {name for name in new if not torch.equal(new[name], kept[name])}
    assert any("ln_" in name for name in changed)
    assert not any("attn" in name or "mlp" in name for name in changed)
    gate = Gate.from_parameters(two.parameters)
    assert gate is not None
    assert gate.owner_K.tolist() == [0, 0, 0, 1, 1, 1]
    cells = measure(second.config, start, second.folder.bundle.uri, second.set_uris)
    assert [cell.choice for cell in cells] == [(1.0, 0.0), (0.0, 1.0)]
    assert [cell.images for cell in cells] == [TESTED, TESTED]


def test_a_model_without_a_gate_has_no_choice(start, sets, tmp_path):
    first, _ = steps_of(start, sets, "finetune", tmp_path)
    learn(first)
    cells = measure(first.config, start, first.folder.bundle.uri, first.set_uris)
    assert [cell.choice for cell in cells] == [()]
