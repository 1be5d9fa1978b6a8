"""Task stores: what is in them, what goes on after an interruption, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.labels.visibility import Appearance
from grmp_core.learning.episode_plan import plan_episode
from grmp_core.procedural import scenes
from grmp_core.tasks.distortion_tasks import prepare_reference, split_references, synthesize_row
from pipelines.configuration.pretraining import SynthesizeConfig
from pipelines.pretraining.episode_sources import check_store
from pipelines.pretraining.pretraining_run import pretrain_prompts
from pipelines.task_making import task_writer
from pipelines.task_making.picture_sources import scan_references
from pipelines.task_making.synthesis import synthesize
from tests.pipelines.workloads.small import TASKS, moved, write_png

pytestmark = pytest.mark.ray


def test_the_store_is_what_one_process_makes(config, store):
    ids = [scenes.reference_id(i) for i in range(5)]
    parts = split_references(ids, 0.2, config.seed)
    plan = plan_episode("white_noise", 0, store.num_references, config.meta, config.seed)
    views, quality = store.read(plan.task, "support", plan.support)
    for (index, level), view, label in zip(plan.support, views, quality, strict=True):
        name = store.reference_ids["support"][index]
        pristine = prepare_reference(scenes.reference(ids.index(name)), 224, 384)
        seen = Appearance(pristine)
        row = synthesize_row(pristine, name, parts[name], "white_noise", level, 224, config.seed, "picture", seen)
        assert np.array_equal(row.view_HW3, view)
        assert row.quality == pytest.approx(label)


def test_finished_blocks_are_not_made_again_and_other_settings_are_refused(config, store):
    files = sorted(Path(store.root.path).rglob("*.parquet"))
    before = [file.stat().st_mtime_ns for file in files]
    (Path(store.root.path) / "blocks" / "00001.json").unlink()
    again = synthesize(config)
    assert again.rows == 5 * 5 * len(TASKS)
    changed = {file.name for file, old in zip(files, before, strict=True) if file.stat().st_mtime_ns != old}
    assert changed == {"part-00001.parquet"}
    with pytest.raises(InputError, match=r"other settings or photos \(synthesize.seed was 0 and is 1"):
        synthesize(dataclasses.replace(config, seed=1))


def test_a_bad_photo_is_listed_and_too_many_are_refused(config, output):
    folder = output / "photos"
    folder.mkdir()
    for i in range(4):
        write_png(folder / f"{i}.png", scenes.reference(i, 230, 240))
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:2000])
    (folder / "notes.txt").write_text("of the photographer")
    photos = SynthesizeConfig(source="photos", path=str(folder), references=0, tasks=("jpeg",), max_reject_fraction=0.3)
    one = dataclasses.replace(config, output=str(output / "from_photos"), synthesize=photos)
    done = synthesize(one)
    assert done.references == 4
    assert [Path(reject["path"]).name for reject in done.rejected] == ["torn.png"]
    manifest = json.loads((output / "from_photos" / "tasks" / "manifest.json").read_text())
    assert manifest["rejected"] == list(done.rejected)
    assert manifest["not_taken"] == [{"path": str(folder / "notes.txt"), "reason": "no image by its content"}]
    with pytest.raises(InputError, match=r"torn\.png"):
        synthesize(dataclasses.replace(one, synthesize=dataclasses.replace(photos, max_reject_fraction=0.1)))


def test_a_store_of_another_rule_for_compositions_is_another_store(config, monkeypatch):
    usable, _ = scan_references(config)
    composed = dataclasses.replace(config, synthesize=dataclasses.replace(config.synthesize, tasks=("darken-jpeg",)))
    before = [task_writer.store_identity(c, usable) for c in (config, composed)]
    monkeypatch.setattr(task_writer, "COMPOSITION_RULE", "all at one level")
    after = [task_writer.store_identity(c, usable) for c in (config, composed)]
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(("labels", "constants"), [("mean", {}), ("picture", {"STRENGTH": 0.5})])
def test_labels_of_another_rule_are_refused(config, store, monkeypatch, labels, constants):
    other = dataclasses.replace(config, synthesize=dataclasses.replace(config.synthesize, labels=labels))
    check_store(store, config)
    for name, value in constants.items():
        monkeypatch.setattr(task_writer, name, value)
    with pytest.raises(InputError, match=f"has labels by 'picture .*now makes '{labels} "):
        check_store(store, other)


def test_half_a_store_is_refused(config, output, store):
    half = moved(config, output, "half")
    (Path(half.output) / "tasks").unlink()
    shutil.copytree(store.root.path, Path(half.output) / "tasks", ignore=shutil.ignore_patterns("*00001.parquet"))
    with pytest.raises(InputError, match="holds 3 of its 5 references: it was interrupted"):
        pretrain_prompts(half)
