"""Distillation on Ray: scores by Ray Data, and the same student by workers of which one is killed."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import read_bundle
from grmp_core.storage import locate
from pipelines.configuration.distilling import DistilConfig
from pipelines.configuration.schema import Config
from pipelines.distilling.distilling_run import distil_student
from tests.pipelines.workloads.small import assert_same, kill_a_train_worker, write_png

pytestmark = pytest.mark.ray


def test_two_workers_and_a_killed_one_give_one_process_student(tmp_path, ray_instance, capfd):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(12):
        low, high = sorted(rng.integers(0, 256, 2))
        write_png(tmp_path / "images" / f"{i}.png", rng.integers(low, high + 1, (230, 240, 3), dtype=np.uint8))
    settings = DistilConfig(
        teacher="backbone",
        student="grmp-nano-xxs",
        images=(str(tmp_path / "images"),),
        steps=6,
        images_per_group=2,
        workers=0,
        checkpoint_every=1,
    )
    alone = Config(output=str(tmp_path / "alone"), views=ViewConfig(train_views=1, score_grid=1), distil=settings)
    expected = read_bundle(locate(distil_student(alone).bundle)).parameters
    spread = dataclasses.replace(
        alone, output=str(tmp_path / "spread"), distil=dataclasses.replace(settings, workers=2)
    )
    killed: list[int] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=kill_a_train_worker, args=(Path(spread.output) / "distil" / "grmp-nano-xxs", killed, stop)
    )
    thread.start()
    try:
        result = distil_student(spread)
    finally:
        stop.set()
        thread.join()
    assert len(killed) == 1, "the run was over before a worker could be killed"
    assert "distil: goes on after step" in capfd.readouterr().err
    assert_same(read_bundle(locate(result.bundle)).parameters, expected, rtol=1e-4)
    history = (locate(result.bundle).parent / "history.json").read_json()["history"]
    assert [record["step"] for record in history] == [6]
