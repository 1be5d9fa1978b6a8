"""Distillation in one process: what is kept, what is refused, and what comes out."""

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import LEARNED_FROM, read_bundle, write_bundle
from grmp_core.model.scorer import Scorer
from grmp_core.model.whole_model import whole_description
from grmp_core.storage import locate
from pipelines.configuration.distilling import DistilConfig
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import with_settings
from pipelines.configuration.models import CardConfig, RegisterConfig, TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.distilling import distilling_run, teacher_scores, training_loop
from pipelines.distilling.distilling_run import distil_student, labelled_images, load_student, view_plan
from pipelines.distilling.teachers import find_teacher
from pipelines.distilling.training_loop import image_numbers
from pipelines.registry.model_card import card_sections
from pipelines.registry.origin import card_of
from pipelines.registry.registration import register_model
from pipelines.tracking.tracker import tracker_of
from pipelines.training import checkpoints
from tests.pipelines.distilling.plugins import install
from tests.pipelines.workloads.small import write_png

IMAGES = 12


@pytest.fixture
def plugins(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("plugins")
    monkeypatch.syspath_prepend(str(folder))
    install(folder)
    yield
    sys.modules.pop("brightness_teacher", None)


@pytest.fixture
def config(tmp_path, checkpoints, plugins, mlflow_store, request) -> Config:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(IMAGES):
        low, high = sorted(rng.integers(0, 256, 2))
        write_png(tmp_path / "images" / f"{i}.png", rng.integers(low, high + 1, (40, 44, 3), dtype=np.uint8))
    rows = "".join(f"images/{i}.png,{i}\n" for i in range(4))
    (tmp_path / "labels.csv").write_text(f"image,mos\n{rows}")
    return Config(
        output=str(tmp_path / "run"),
        views=ViewConfig(train_views=2, score_grid=1),
        target=TargetConfig(path=str(tmp_path / "labels.csv"), score_min=0, score_max=3),
        distil=DistilConfig(
            teacher="brightness",
            student="tiny-quickgelu",
            weights=checkpoints("tiny-quickgelu", 1),
            images=(str(tmp_path / "images"),),
            steps=4,
            images_per_group=3,
            workers=0,
            checkpoint_every=1,
        ),
        tracking=TrackingConfig(uri=mlflow_store.uri, experiment=request.node.name),
    )


def changed(config: Config, output: str | None = None, **settings) -> Config:
    distil = dataclasses.replace(config.distil, **settings)
    return dataclasses.replace(config, distil=distil, output=f"{config.output}{output}" if output else config.output)


def test_the_student_is_a_bundle_on_the_teachers_scale_that_says_where_it_comes_from(config):
    result = distil_student(config)
    assert (result.images, result.labels, result.teacher_parameters) == (11, 4, None)
    bundle = read_bundle(locate(result.bundle))
    assert (bundle.kind, bundle.score_range.mos_min < bundle.score_range.mos_max) == ("model", True)
    assert bundle.provenance["teacher"]["licence"] == "MIT"
    assert len(bundle.provenance[LEARNED_FROM]) == 4
    score = Scorer(bundle, "student").score([np.full((40, 40, 3), 90, dtype=np.uint8)])[0]
    assert 0 < score.quality < 1
    assert bundle.score_range.mos_min < score.mos_scale_score < bundle.score_range.mos_max
    card = card_of(dataclasses.replace(config, card=CardConfig(model=result.bundle))).as_text()
    assert "* teacher: Brightness, on 11 images without labels" in card
    assert "| Brightness | teacher | MIT | unknown |" in card


def test_it_learns_what_the_teacher_sees(config):
    """More steps imitate better, on images that took part in none."""
    longer = changed(config, steps=60, label_weight=0.0, checkpoint_every=60)
    distil_student(longer)
    history = (locate(config.output) / "distil" / "tiny-quickgelu" / "history.json").read_json()["history"]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def test_no_image_is_scored_twice_and_a_content_counts_once(config, monkeypatch, tmp_path, capsys):
    asked = []
    scores_of = teacher_scores.scores_of
    monkeypatch.setattr(teacher_scores, "scores_of", lambda t, v: asked.append(len(v)) or scores_of(t, v))
    distil_student(config)
    assert sum(asked) == 2 * IMAGES
    (tmp_path / "images" / "copy.png").write_bytes((tmp_path / "images" / "0.png").read_bytes())
    (tmp_path / "images" / "bad.png").write_bytes(b"no picture")
    write_png(tmp_path / "images" / "new.png", np.full((40, 40, 3), 7, dtype=np.uint8))
    result = distil_student(config)
    assert sum(asked) == 2 * IMAGES + 2
    assert result.images == 12  # of 13 contents one is held out
    assert "skipped" in (said := capsys.readouterr().err)
    assert f"{IMAGES} of {IMAGES + 1} images were scored before" in said
    manifest = (locate(result.bundle).parent / "manifest.json").read_json()
    assert [row["path"].rsplit("/", 1)[-1] for row in manifest["rejected"]] == ["bad.png"]


def test_labels_of_a_description_that_knows_its_folder_count(config, tmp_path):
    described = tmp_path / "my_set.yaml"
    described.write_text("tables: labels.csv\nimage: image\nscore: mos\n")
    config = dataclasses.replace(config, target=TargetConfig(dataset=str(described), score_min=0, score_max=3))
    source = find_teacher(config)
    labelled = labelled_images(config, view_plan(config, source, load_student(config, source)))
    assert labelled.quality_M.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_an_interrupted_run_goes_on_and_is_bit_for_bit_the_same(config, monkeypatch, capsys):
    whole = read_bundle(locate(distil_student(changed(config, "-whole")).bundle)).parameters
    write = checkpoints.write_checkpoint

    def die(place, step, content) -> None:
        write(place, step, content)
        if step == 2:
            raise RuntimeError("the end came early")

    monkeypatch.setattr(training_loop, "write_checkpoint", die)
    with pytest.raises(RuntimeError, match="came early"):
        distil_student(config)
    monkeypatch.setattr(training_loop, "write_checkpoint", write)
    parameters = read_bundle(locate(distil_student(config).bundle)).parameters
    assert "distil: goes on after step 2" in capsys.readouterr().err
    assert parameters.keys() == whole.keys()
    assert all(torch.equal(parameters[name], tensor) for name, tensor in whole.items())
    tracker = tracker_of(config)
    runs = {run.data.params["output"]: run for run in tracker.search("")}
    assert len(runs) == len(tracker.search("")) == 2
    ours, undisturbed = (runs[output].data for output in (config.output, f"{config.output}-whole"))
    assert {**ours.metrics, "seconds": 0} == {**undisturbed.metrics, "seconds": 0}


def in_two_workers(arguments) -> None:
    """As `training_loop.worker` on two workers, which are threads."""
    config, kept = arguments["config"], locate(arguments["kept"])
    barrier, parts = Barrier(2, timeout=60), {}

    def work(rank: int) -> None:
        def reduce(flat: torch.Tensor) -> None:
            parts[rank] = flat.clone()
            barrier.wait()
            flat.copy_(parts[0] + parts[1])
            barrier.wait()

        def save(step, content) -> None:
            if rank == 0:
                checkpoints.write_checkpoint(kept, step, content)

        device = torch.device("cpu")
        training_loop.learn(config, arguments["lesson"], device, None, save, rank=rank, world_size=2, reduce=reduce)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))


def test_two_workers_give_the_student_of_one_to_the_last_bit(config, monkeypatch):
    def loss_of_known_gradient(model, learned, group, *rest):
        """Passes of a network differ in their last bits by where memory lies."""
        rng = torch.Generator().manual_seed(int(group.views_BHW3.sum(dtype=torch.int64)))
        return sum((tensor * torch.randn(tensor.shape, generator=rng)).sum() for tensor in learned.values())

    monkeypatch.setattr(training_loop, "group_loss", loss_of_known_gradient)
    config = changed(config, groups_per_step=5)
    alone = read_bundle(locate(distil_student(changed(config, "-alone")).bundle)).parameters
    monkeypatch.setattr(distilling_run, "learn_here", in_two_workers)
    shared = read_bundle(locate(distil_student(config).bundle)).parameters
    assert shared.keys() == alone.keys()
    assert all(torch.equal(shared[name], tensor) for name, tensor in alone.items())


def test_from_a_registered_student_over_its_teacher_to_the_labels(config, unadapted_folder, tmp_path, monkeypatch):
    """Teacher and student are registered; the card of the student names the unlabelled images and its own labels."""
    monkeypatch.setattr(distilling_run, "HELD_OUT_SHARE", 0.5)  # of twelve images, enough for an SRCC
    teacher_folder = tmp_path / "teacher" / "bundle"
    teacher = read_bundle(locate(unadapted_folder))
    write_bundle(locate(teacher_folder), dataclasses.replace(teacher, kind="model", provenance={"target": "kadid10k"}))
    names = [f"{name} of {config.tracking.experiment}" for name in ("teacher", "student")]
    register_model(dataclasses.replace(config, register=RegisterConfig(name=names[0], bundle=str(teacher_folder))))
    taught = distil_student(changed(config, teacher=f"models:/{names[0]}@champion", steps=1))
    done = register_model(dataclasses.replace(config, register=RegisterConfig(name=names[1], bundle=taught.bundle)))
    card = card_of(dataclasses.replace(config, card=CardConfig(model=f"models:/{names[1]}/{done.version}")))
    way = [(step, found.partition(" ")[0]) for step, found in card.way]
    assert ("run", "distil") in way
    assert ("started from", "quality-model") in way
    assert {"data table", "data unlabelled", "input target", "input unlabelled"} <= {step for step, _ in way}
    model = tracker_of(config).client.get_logged_model(dict(way)["logged model"])
    unlabelled = next(found for step, found in card.way if step == "data unlabelled")
    (measured,) = [metric for metric in model.metrics if metric.key == "teacher_srcc"]
    assert measured.value == pytest.approx(taught.teacher_srcc)
    assert f"digest {measured.dataset_digest}" == unlabelled


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("nan", r"^teacher Nan gave the score nan \(first at .*\.png\); the scores of 12 images are kept$"),
        ("fewer", r"^teacher Fewer gave \d+ scores for \d+ pictures"),
        ("raises", r"^teacher Raises failed \(ValueError: out of order\)"),
        ("small", r"student tiny-quickgelu has [\d,]+ parameters, its teacher Small only 7"),
    ],
)
def test_a_teacher_that_fails_is_one_line_and_what_was_scored_stays(config, teacher, message, monkeypatch):
    distil_student(config)  # an honest run before, whose files stay
    kept = {file.uri for file in locate(config.output).list(recursive=True)}
    if teacher == "nan":  # the same teacher goes bad for new content
        good = teacher_scores.scores_of
        monkeypatch.setattr(teacher_scores, "_ROWS_OF_A_CALL", 1)
        calls = []

        def scores_of(given, views):
            calls.append(1)
            if len(calls) > IMAGES:
                given = sys.modules["brightness_teacher"].nan
            return good(given, views)

        monkeypatch.setattr(teacher_scores, "scores_of", scores_of)
        folder = locate(config.distil.images[0])
        config = changed(config, "-nan", teacher="brightness")
        write_png(f"{folder.path}/new.png", np.full((40, 40, 3), 7, dtype=np.uint8))
    else:
        config = changed(config, teacher=teacher)
    with pytest.raises(InputError, match=message) as caught:
        distil_student(config)
    assert "\n" not in str(caught.value)
    assert kept <= {file.uri for file in locate(config.output.removesuffix("-nan")).list(recursive=True)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": ()}, "no images to learn from"),
        ({"teacher": None}, "no teacher: give --teacher"),
        ({"weights": None}, r"distil\.student tiny-quickgelu has no weights to start from"),
        ({"teacher": "nowhere"}, "no bundle at .*nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(config, settings, message):
    with pytest.raises(InputError, match=message):
        distil_student(changed(config, **settings))


@pytest.mark.parametrize("section", ["distil", "score"])
def test_without_the_gpu_that_is_asked_for_nothing_is_computed_in_this_process(config, section, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asking = with_settings(config, {f"{section}.gpus_per_worker": 1})
    with pytest.raises(
        InputError, match=rf"^{section}\.gpus_per_worker is 1, and this machine has no GPU .*workers to 1"
    ):
        distil_student(asking)
    assert not (locate(config.output) / "distil").exists()


def test_every_image_comes_once_a_pass_in_an_order_of_its_own():
    drawn = [image for group in range(14) for image in image_numbers(group, count=7, per_group=3, seed=1)]
    passes = [drawn[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1]
    assert image_numbers(0, count=2, per_group=7, seed=1)[:2] != []


def test_the_students_record_has_no_place_of_the_teacher(config, unadapted_folder, tmp_path):
    """Nor have its exports and its card, also those of a student that was made before and has one."""
    folder = locate(distil_student(changed(config, teacher=unadapted_folder, steps=1)).bundle)
    student, name = read_bundle(folder), f"bundle {read_bundle(locate(unadapted_folder)).digest[:12]}"
    assert student.provenance["teacher"]["name"] == name
    old = {**student.provenance["teacher"], "name": locate(unadapted_folder).uri}
    made_before = dataclasses.replace(student, provenance={**student.provenance, "teacher": old})
    write_bundle(locate(tmp_path / "made-before"), made_before)
    for bundle in (student, read_bundle(locate(tmp_path / "made-before"))):
        texts = [str(whole_description(bundle)), *card_sections(bundle)]
        assert not [text for text in texts if unadapted_folder in text]
        assert any(f"| {name} | teacher |" in text for text in texts)


def test_colour_profiles_are_those_of_the_teachers_bundle(config, unadapted_folder):
    bundle = read_bundle(locate(unadapted_folder))
    limits = ImageLimits(colour_profiles=not bundle.colour_profiles)
    own = dataclasses.replace(changed(config, teacher=unadapted_folder, steps=1), images=limits)
    student = read_bundle(locate(distil_student(own).bundle))
    assert (student.colour_profiles, student.precision) == (bundle.colour_profiles, bundle.precision)
