"""KADID-10k and TID2013 as downloaded, in miniature: their pictures and scores become the tasks."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from grmp_core.datasets import distortions_of
from grmp_core.distortions import REGISTRY
from grmp_core.errors import InputError
from grmp_core.imaging.decoding import read_image
from grmp_core.learning.episode_plan import episodes_of_step, plan_episode
from grmp_core.learning.settings import MetaConfig
from grmp_core.seeds import seed_of
from grmp_core.storage import locate
from grmp_core.tasks.task_store import TaskStore
from pipelines.configuration.pretraining import SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.task_making import episode_stream
from pipelines.task_making.picture_sources import rated_references, scan_references, task_names
from pipelines.task_making.synthesis import synthesize

pytestmark = pytest.mark.ray
TASKS = ("white_noise", "lens_blur")
"""Types 11 and 2 of KADID-10k."""
LEVELS = (1, 2, 3, 4, 5)
REFERENCES = 5
SIZE_PX = 224


def write_picture(path: Path, *identity: object) -> None:
    """Noise that nothing else in the set holds, a little larger than a view."""
    rng = np.random.default_rng(seed_of(*identity))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rng.integers(0, 256, (SIZE_PX + 6, SIZE_PX + 16, 3), dtype=np.uint8))


def score_of(reference: int, kind: int, level: int) -> float:
    """A score that tells the picture apart, inside the scales of both sets."""
    return 1 + level / 2 + kind / 50 + reference / 1000


@pytest.fixture(scope="module")
def kadid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five references of two types at all levels."""
    root = tmp_path_factory.mktemp("downloads") / "kadid10k"
    rows = []
    for reference in range(1, REFERENCES + 1):
        for kind in (2, 11):
            for level in LEVELS:
                name = f"I{reference:02}_{kind:02}_{level:02}.png"
                write_picture(root / "images" / name, reference, kind, level)
                rows.append([name, f"I{reference:02}.png", score_of(reference, kind, level), 0.5])
    with open(root / "dmos.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["dist_img", "ref_img", "dmos", "var"], *rows])
    return root


@pytest.fixture
def tid(tmp_path: Path) -> Path:
    """Two references of one type, number 24, with the release's mixed spelling."""
    root = tmp_path / "tid2013"
    lines = []
    for reference in (1, 2):
        for level in LEVELS:
            write_picture(root / "distorted_images" / f"i{reference:02}_24_{level}.bmp", reference, level)
            lines.append(f"{score_of(reference, 24, level)} I{reference:02}_24_{level}.BMP\n")
    (root / "mos_with_names.txt").write_text("".join(lines))
    return root


def config_of(source: str, path: Path, output: Path, **settings) -> Config:
    chosen = {"references": 0, "tasks": TASKS, "references_per_block": 2, **settings}
    return Config(output=str(output), synthesize=SynthesizeConfig(source=source, path=str(path), **chosen))


@pytest.fixture(scope="module")
def config(kadid, tmp_path_factory) -> Config:
    return config_of("kadid10k", kadid, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def store(config, ray_instance) -> TaskStore:
    synthesize(config)
    return TaskStore(locate(config.output) / "tasks")


def test_the_sets_own_pictures_and_scores_become_the_tasks(config, kadid, store):
    assert store.tasks == tuple(sorted(TASKS))
    ids = store.reference_ids
    assert sorted(ids["support"] + ids["query"]) == [f"kadid10k/I{i:02}" for i in range(1, REFERENCES + 1)]
    assert len(ids["query"]) == 1
    plan = plan_episode("white_noise", 0, store.num_references, MetaConfig(batch_size=4), config.seed)
    views, quality = store.read(plan.task, "support", plan.support)
    for (index, level), view, label in zip(plan.support, views, quality, strict=True):
        reference = int(ids["support"][index][-2:])
        picture = read_image(kadid / "images" / f"I{reference:02}_11_{level:02}.png")
        assert label == pytest.approx((score_of(reference, 11, level) - 1) / 4)
        assert any(
            np.array_equal(picture[top : top + SIZE_PX, left : left + SIZE_PX], view)
            for top in range(7)
            for left in range(17)
        )


def test_streamed_rated_pictures_are_the_stored_ones(config, store):
    config = dataclasses.replace(config, meta=MetaConfig(batch_size=3, tasks_per_step=1))
    usable, _ = scan_references(config)
    streamed = list(episode_stream.stream_episodes(config, usable, range(3), 0, 1))
    for step, episode in enumerate(streamed):
        [plan] = episodes_of_step(store.tasks, step, store.num_references, config.meta, config.seed)
        assert episode["task"] == plan.task
        for part in ("support", "query"):
            views, quality = store.read(plan.task, part, getattr(plan, part))
            np.testing.assert_array_equal(episode[f"{part}_views"], views)
            np.testing.assert_array_equal(episode[f"{part}_quality"], quality)


def test_a_reference_with_a_missing_or_torn_picture_is_left_out_and_listed(kadid, tmp_path, ray_instance):
    root = tmp_path / "kadid10k"
    shutil.copytree(kadid, root)
    (root / "images" / "I02_11_03.png").unlink()
    torn = root / "images" / "I04_02_05.png"
    torn.write_bytes(torn.read_bytes()[:5000])
    config = config_of("kadid10k", root, tmp_path / "run", query_fraction=0.4)
    done = synthesize(config)
    assert done.references == 3
    assert done.rows == 3 * len(TASKS) * len(LEVELS)
    listed = [(Path(reject["path"]).name, reject["reason"]) for reject in done.rejected]
    assert [name for name, _ in listed] == ["I02_11_03.png", "I04_02_05.png", "I02", "I04"]
    assert "image not found" in listed[0][1]
    assert "damaged or truncated" in listed[1][1]
    assert listed[2][1] == "left out: 1 of its 10 pictures cannot be used"
    manifest = json.loads((tmp_path / "run" / "tasks" / "manifest.json").read_text())
    assert manifest["rejected"] == list(done.rejected)
    strict = dataclasses.replace(config.synthesize, max_reject_fraction=0.02)
    with pytest.raises(InputError, match=r"2 of 50 pictures .*synthesize\.max_reject_fraction; .*I02_11_03\.png"):
        synthesize(dataclasses.replace(config, output=str(tmp_path / "strict"), synthesize=strict))


def test_changed_scores_are_other_tasks(config, kadid, store, tmp_path):
    root = tmp_path / "kadid10k"
    shutil.copytree(kadid, root)
    labels = (root / "dmos.csv").read_text()
    (root / "dmos.csv").write_text(labels.replace(str(score_of(1, 2, 1)), "4.4"))
    rescored = dataclasses.replace(config.synthesize, path=str(root))
    with pytest.raises(InputError, match="other settings"):
        synthesize(dataclasses.replace(config, synthesize=rescored))


def test_types_that_the_download_lacks_are_named(kadid, tmp_path, ray_instance):
    with pytest.raises(InputError, match="no reference has all 15 pictures"):
        synthesize(config_of("kadid10k", kadid, tmp_path, tasks=(*TASKS, "jpeg")))
    with pytest.raises(InputError, match="kadid10k has no sparse_sampling"):
        synthesize(config_of("kadid10k", kadid, tmp_path, tasks=("sparse_sampling",)))


def test_tid2013_keeps_its_scale(tid, tmp_path):
    references, rejected = rated_references(config_of("tid2013", tid, tmp_path, tasks=("sparse_sampling",)))
    assert [reference.reference_id for reference in references] == ["tid2013/I01", "tid2013/I02"]
    assert not rejected
    picture = references[1].rated["sparse_sampling", 3]
    assert Path(picture.uri).name == "i02_24_3.bmp"
    assert picture.quality == pytest.approx(score_of(2, 24, 3) / 9)


def test_references_limits_how_many_are_used(kadid, tmp_path):
    references, _ = rated_references(config_of("kadid10k", kadid, tmp_path, references=2))
    assert [reference.reference_id for reference in references] == ["kadid10k/I01", "kadid10k/I02"]


@pytest.mark.parametrize(
    ("source", "tasks", "count"),
    [("procedural", (), 25), ("procedural", ("all",), 36), ("kadid10k", ("all",), 25), ("tid2013", (), 24)],
)
def test_tasks_that_are_not_named_are_the_sets(source, tasks, count):
    names = task_names(Config(synthesize=SynthesizeConfig(source=source, path="x", tasks=tasks)))
    assert len(set(names)) == len(names) == count
    assert set(names) <= set(REGISTRY)
    if source == "kadid10k":
        assert names == distortions_of("kadid10k")


def test_a_published_set_without_its_folder_is_refused():
    with pytest.raises(InputError, match=r"synthesize\.path: give the folder of the download"):
        SynthesizeConfig(source="tid2013")
