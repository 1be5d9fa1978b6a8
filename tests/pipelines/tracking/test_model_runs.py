"""Adaptations and distillations become runs that name what they began with."""

from __future__ import annotations

import json

from grmp_core.storage import locate
from pipelines.tracking.catching_up import log_outbox
from pipelines.tracking.tracker import open_tracking
from tests.pipelines.tracking.folders import small_bundle, write_adaptation, write_distillation, write_pretraining


def test_an_adaptation_is_a_run_with_its_curves_labels_and_the_prompts_it_began_with(config, tmp_path) -> None:
    tracker = open_tracking(config)
    pretrained = tracker.log("pretrain", locate(write_pretraining(tmp_path)))
    folder = write_adaptation(tmp_path, small_bundle("prompts").digest)
    run = tracker.client.get_run(tracker.log("adapt", locate(folder)))
    assert (run.info.run_name, run.info.status) == ("adapt", "FINISHED")
    assert run.data.params["bundle"] == str(folder / "bundle")
    assert run.data.params["adapt.lr"] == "0.1"
    assert {name: run.data.metrics[name] for name in ("val_srcc", "epochs", "seconds")} == {
        "val_srcc": 0.5,
        "epochs": 2,
        "seconds": 7,
    }
    curve = tracker.client.get_metric_history(run.info.run_id, "epoch/quality_loss")
    assert [(m.step, m.value) for m in curve] == [(1, 1.0), (2, 0.5)]
    (labels,) = run.inputs.dataset_inputs
    assert (labels.dataset.name, labels.dataset.digest, labels.tags[0].value) == ("livec", "sha256:feed", "labels")
    (used,) = run.inputs.model_inputs
    prompts = tracker.client.get_logged_model(used.model_id)
    assert (prompts.source_run_id, prompts.model_type, prompts.status) == (pretrained, "prompts", "READY")
    assert tracker.run_of_bundle(locate(folder / "bundle")).info.run_id == run.info.run_id
    assert tracker.log("adapt", locate(folder)) == run.info.run_id
    again = tracker.log("adapt", locate(write_adaptation(tmp_path, small_bundle("prompts").digest, lr=0.2)))
    assert again != run.info.run_id  # other settings: another model
    assert tracker.run_of_bundle(locate(folder / "bundle")).info.run_id == again


def test_a_distillation_is_one_run_however_often_it_was_begun(config, tmp_path, monkeypatch) -> None:
    tracker = open_tracking(config)
    folder = locate(write_distillation(tmp_path, small_bundle("model", 1).digest))
    monkeypatch.setattr(tracker.client, "set_terminated", lambda *_: 1 / 0)
    assert tracker.log("distil", folder) == ""
    (run_id,) = log_outbox(config).runs
    assert len(tracker.search("")) == 1
    run = tracker.client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("distil", "FINISHED")
    assert run.data.params["distil.teacher"] == "models:/t/1"
    assert run.data.metrics["teacher_srcc"] == 0.75
    curve = tracker.client.get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in curve] == [(20, 0.5), (40, 0.25)]
    (images,) = run.inputs.dataset_inputs
    assert (images.dataset.digest, images.tags[0].value) == ("beef", "unlabelled")
    assert json.loads(images.dataset.source) == {"uri": "a, b"}
    assert tracker.log("distil", locate(write_distillation(tmp_path, "other", "2d"))) != run_id
