"""Memory of a worker that makes pictures: it decides how many of them a machine holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grmp_core.imaging.decoding import ImageLimits
from grmp_core.learning.episode_plan import EpisodePlan
from grmp_core.storage import locate
from pipelines.task_making import episode_stream, task_writer
from pipelines.task_making.picture_sources import Reference, Synthesizer

ROOT = Path(__file__).resolve().parents[3]
GIB = 2**30
WORK = """
import sys
from grmp_core.distortions import KADID_NAMES
from grmp_core.imaging.decoding import ImageLimits
from pipelines.runtime.kept_memory import keep_freed_memory
from pipelines.task_making.picture_sources import Reference, Synthesizer
import pipelines.task_making.episode_stream, pipelines.task_making.task_writer  # what Ray has a worker import

keep_freed_memory()
rows_of = Synthesizer(224, 384, 0, ImageLimits()).rows_of(Reference("photo", sys.argv[1]), "support")
shapes = {rows_of(task, 5).view_HW3.shape for task in KADID_NAMES}
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(1024 * int(peak), "torch" in sys.modules, shapes == {(224, 224, 3)})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_a_24_megapixel_photo_is_distorted_in_less_than_a_gibibyte(tmp_path, name):
    rows = np.random.default_rng(0).integers(0, 256, (8, 6000, 3), dtype=np.uint8)
    Image.fromarray(np.repeat(rows, 500, axis=0)).save(tmp_path / name)
    command = [sys.executable, "-c", WORK, str(tmp_path / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, with_torch, complete = done.stdout.split()
    assert complete == "True"
    assert with_torch == "False"
    assert int(peak) < GIB


def test_both_kinds_of_workers_keep_what_they_free(tmp_path, monkeypatch):
    kept = []
    synthesizer, drawn = Synthesizer(224, 384, 0, ImageLimits(), "mean"), Reference("a", seed=1)
    writer = task_writer.BlockWriter(synthesizer, ((drawn,),), {"a": "support"}, ("jpeg",), locate(tmp_path))
    plan = EpisodePlan(task="jpeg", step=0, support=((0, 1),), query=((0, 2),))
    maker = episode_stream.EpisodeMaker(synthesizer, {"support": [drawn], "query": [drawn]}, (plan,))
    for module, work in ((task_writer, writer.write), (episode_stream, maker.make)):
        monkeypatch.setattr(module, "keep_freed_memory", lambda module=module: kept.append(module))
        work({"id": 0})
    assert kept == [task_writer, episode_stream]
