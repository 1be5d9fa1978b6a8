"""Distortion tasks and their store."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from grmp_core.distortions import compose
from grmp_core.errors import InputError
from grmp_core.labels.human_means import combined_quality, quality_of, quality_of_composition
from grmp_core.learning.episode_plan import episodes_of_step, plan_episode, tasks_of_step
from grmp_core.learning.meta_pretraining import make_episode
from grmp_core.learning.settings import MetaConfig
from grmp_core.storage import locate
from grmp_core.tasks.distortion_tasks import (
    LEVELS,
    draw_composed_tasks,
    prepare_reference,
    split_references,
    synthesize_row,
    types_of,
)
from grmp_core.tasks.task_store import TaskStore, write_task_file

TASKS = ("gaussian_blur", "jpeg")
IDS = tuple(f"ref{i}" for i in range(6))
NO_DRAWS = np.random.default_rng(0)
"""For types that draw nothing."""


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_one_type_of_a_composed_row_has_its_level_and_the_others_are_at_their_mildest():
    scene, led = picture(0, 32, 32), set()
    ways = {"darken": (("darken", 4.0), ("contrast", 3.0)), "contrast": (("darken", 1.0), ("contrast", 4.0))}
    for seed in range(8):
        row = synthesize_row(scene, "ref0", "support", "darken-contrast", 4, 32, seed)
        same = [name for name, parts in ways.items() if np.array_equal(row.view_HW3, compose(scene, parts, NO_DRAWS))]
        assert len(same) == 1
        assert row.quality == pytest.approx(quality_of_composition(ways[same[0]]))
        led.update(same)
    assert led == set(ways)


def test_drawn_compositions_are_different_and_can_be_applied():
    names = draw_composed_tasks(30, seed=0)
    assert len(set(names)) == 30
    assert all(2 <= len(types_of(name)) <= 4 for name in names)
    assert names == draw_composed_tasks(30, seed=0) != draw_composed_tasks(30, seed=1)


@pytest.mark.parametrize("task", ["jpeg-nosuchtype", "jpeg-jpeg2000", "jpeg-", "jpeg-darken-denoise-jitter-sharpen"])
def test_what_cannot_be_composed_is_refused(task):
    with pytest.raises(InputError):
        types_of(task)


def test_no_reference_is_in_both_parts_and_rows_do_not_decide():
    parts = split_references(IDS, 0.3, seed=1)
    assert sorted(parts) == sorted(IDS)
    assert list(parts.values()).count("query") == 2
    assert split_references(reversed(IDS), 0.3, seed=1) == parts
    assert split_references(IDS, 0.3, seed=2) != parts


@pytest.mark.parametrize(("ids", "fraction"), [(IDS[:1], 0.5), (IDS[:3], 0.1), ((), 0.5)])
def test_an_empty_part_is_refused(ids, fraction):
    with pytest.raises(InputError, match="leave support or query"):
        split_references(ids, fraction, seed=0)


def test_a_row_is_a_function_of_its_names_alone():
    row = synthesize_row(picture(0), "ref0", "support", "white_noise", 3, 32, seed=5)
    again = synthesize_row(picture(0), "ref0", "support", "white_noise", 3, 32, seed=5)
    assert np.array_equal(row.view_HW3, again.view_HW3)
    assert row.view_HW3.shape == (32, 32, 3)
    assert row.quality == pytest.approx(quality_of("white_noise", 3.0))
    seen = synthesize_row(picture(0), "ref0", "support", "white_noise", 3, 32, 5, "picture")
    assert np.array_equal(seen.view_HW3, row.view_HW3)
    assert 0 < abs(seen.quality - row.quality) < 0.3  # the label alone knows the picture
    for other in (
        synthesize_row(picture(0), "ref1", "support", "white_noise", 3, 32, seed=5),
        synthesize_row(picture(0), "ref0", "support", "white_noise", 3, 32, seed=6),
    ):
        assert not np.array_equal(row.view_HW3, other.view_HW3)


@pytest.mark.parametrize("task", ["white_noise", "darken-jpeg"])
def test_an_overall_label_adds_the_damage_to_the_quality_before(task):
    given = (picture(0, 60, 80), "ref0", "support", task, 3, 32, 5)
    damage, overall = synthesize_row(*given, "picture"), synthesize_row(*given, "overall", quality_before=0.6)
    assert np.array_equal(overall.view_HW3, damage.view_HW3)
    assert overall.quality == pytest.approx(combined_quality([0.6, damage.quality]), abs=1e-4)
    assert overall.quality < min(0.6, damage.quality)
    with pytest.raises(InputError, match="undamaged picture is needed"):
        synthesize_row(*given, "overall")


@pytest.mark.parametrize(
    ("shape", "short_side", "expected"), [((60, 80), 0, 60), ((60, 80), 40, 40), ((20, 80), 0, 32), ((60, 80), 16, 32)]
)
def test_references_are_shrunk_to_the_wanted_size_and_never_below_the_view(shape, short_side, expected):
    assert min(prepare_reference(picture(0, *shape), 32, short_side).shape[:2]) == expected


def store_at(folder, tasks=TASKS, ids=IDS):
    parts = split_references(IDS, 0.34, seed=0)
    rows = {}
    for task in tasks:
        for block in (0, 1):
            made = [
                synthesize_row(picture(i), name, parts[name], task, level, 32, seed=0)
                for i, name in enumerate(ids)
                if i % 2 == block
                for level in LEVELS
            ]
            rows |= {(task, row.reference_id, row.level): row for row in made}
            write_task_file(locate(folder) / f"task={task}" / f"part-{block:05d}.parquet", made, 32)
    return rows


def test_an_episode_from_the_store_is_the_planned_rows(tmp_path):
    rows = store_at(tmp_path)
    store = TaskStore(locate(tmp_path))
    assert store.tasks == TASKS
    assert store.size_px == 32
    assert store.num_references == {"support": 4, "query": 2}
    plan = plan_episode("jpeg", 3, store.num_references, MetaConfig(batch_size=7), seed=1)
    for part, rows_of_part in (("support", plan.support), ("query", plan.query)):
        views, quality = store.read(plan.task, part, getattr(plan, part))
        expected = [rows["jpeg", store.reference_ids[part][i], level] for i, level in rows_of_part]
        assert np.array_equal(views, np.stack([row.view_HW3 for row in expected]))
        assert quality == pytest.approx([row.quality for row in expected])
        assert {row.part for row in expected} == {part}


@pytest.mark.parametrize("rows_kept", [0, 3, 100])
def test_views_that_are_kept_in_memory_are_those_of_the_files(tmp_path, rows_kept):
    store_at(tmp_path)
    pairs = ((0, 1), (1, 2), (2, 3), (0, 1), (3, 5))
    expected, _ = TaskStore(locate(tmp_path)).read("jpeg", "support", pairs)
    store = TaskStore(locate(tmp_path), rows_kept * 32 * 32 * 3)
    first, _ = store.read("jpeg", "support", pairs)
    for file in tmp_path.rglob("*.parquet") if rows_kept == 100 else ():
        file.unlink()
    again, _ = store.read("jpeg", "support", pairs)
    assert np.array_equal(first, expected)
    assert np.array_equal(again, expected)
    if rows_kept == 3:
        assert len(store._kept) == 3


def test_a_store_reads_back_as_plain_parquet(tmp_path):
    store_at(tmp_path)
    table = pq.read_table(tmp_path / "task=jpeg" / "part-00000.parquet")
    assert table.column_names == ["image", "quality", "level", "severity", "reference_id", "part", "seed"]
    assert table["image"].combine_chunks().to_numpy_ndarray().shape == (15, 32, 32, 3)


def test_plans_follow_seed_step_and_task_only():
    sizes = {"support": 4, "query": 2}
    plan = plan_episode("jpeg", 3, sizes, MetaConfig(batch_size=8), seed=1)
    assert plan == plan_episode("jpeg", 3, sizes, MetaConfig(batch_size=8), seed=1)
    assert plan.support != plan_episode("jpeg", 4, sizes, MetaConfig(batch_size=8), seed=1).support
    assert len(set(plan.support)) == 8
    many = plan_episode("jpeg", 3, sizes, MetaConfig(batch_size=30), seed=1)
    assert len(many.query) == 30
    assert set(many.query) == {(i, level) for i in range(2) for level in LEVELS}


def test_tasks_of_a_step():
    names = tuple("abcdef")
    assert tasks_of_step(names, 0, MetaConfig(), 0) == list(names)
    some = tasks_of_step(names, 0, MetaConfig(tasks_per_step=3), 0)
    assert len(set(some)) == 3
    assert some == sorted(some)
    assert len({tuple(tasks_of_step(names, step, MetaConfig(tasks_per_step=3), 0)) for step in range(20)}) > 5
    with pytest.raises(InputError, match="more than the 6 tasks"):
        tasks_of_step(names, 0, MetaConfig(tasks_per_step=7), 0)


def test_an_episode_is_cut_into_batches():
    views, quality = np.zeros((6, 4, 4, 3), np.uint8), np.linspace(0, 1, 6)
    episode = make_episode("jpeg", (views, quality), (views, quality), MetaConfig(batch_size=4), torch.device("cpu"))
    assert [len(images) for images, _ in episode.support] == [4, 2]
    assert episode.query[1][1].tolist() == pytest.approx([0.8, 1.0])


def test_missing_foreign_and_incomplete_stores_are_refused(tmp_path):
    with pytest.raises(InputError, match="no task store"):
        TaskStore(locate(tmp_path / "nothing"))
    store_at(tmp_path / "half", tasks=("jpeg",))
    store_at(tmp_path / "half", tasks=("gaussian_blur",), ids=IDS[:4])
    with pytest.raises(InputError, match="other references or levels"):
        TaskStore(locate(tmp_path / "half"))


@pytest.mark.parametrize("name", ["task=gaussian_blur/part-00000.parquet", "task=jpeg/part-00001.parquet"])
def test_a_damaged_task_file_is_named(name, tmp_path):
    """The first file of all, whose view size is read, and another one."""
    store_at(tmp_path)
    file = tmp_path / name
    whole = file.read_bytes()
    overwritten = whole[:-200] + b"\xff" * 190 + whole[-10:]
    for damaged in (whole[:1000], b"", overwritten):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{name} is not a readable task file") as refused:
            TaskStore(locate(tmp_path))
        assert "\n" not in str(refused.value)
    pq.write_table(pa.table({"level": [1]}), file)
    with pytest.raises(InputError, match=rf"{name} is not a readable task file"):
        TaskStore(locate(tmp_path))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_the_workers_together_have_every_episode_once(world_size):
    config = MetaConfig(episodes_per_task=3, batch_size=2)
    count = {"support": 4, "query": 2}
    alone = episodes_of_step(TASKS, 5, count, config, seed=1)
    assert len(alone) == 3 * len(TASKS)
    spread = [episodes_of_step(TASKS, 5, count, config, 1, rank, world_size) for rank in range(world_size)]
    assert sorted(map(repr, alone)) == sorted(repr(plan) for plans in spread for plan in plans)
    assert {plan.support for plan in alone} != {alone[0].support}  # they are different draws


def test_the_first_episode_of_a_task_does_not_depend_on_how_many_there_are():
    count = {"support": 4, "query": 2}
    one, three = (episodes_of_step(TASKS, 0, count, MetaConfig(episodes_per_task=n), seed=1) for n in (1, 3))
    assert three[: len(TASKS)] == one
