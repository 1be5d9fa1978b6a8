"""Episodes made on the fly with Ray Data, without a stored task store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.data import TaskPoolStrategy

from grmp_core.learning.episode_plan import EpisodePlan, episodes_of_step
from grmp_core.tasks.distortion_tasks import Part, TaskRow, split_references
from pipelines.runtime.kept_memory import keep_freed_memory
from pipelines.task_making.picture_sources import Reference, Synthesizer, synthesizer_of, task_names

if TYPE_CHECKING:  # it brings torch, which a worker that makes pictures does without
    from pipelines.configuration.schema import Config


def stream_episodes(
    config: Config, usable: Sequence[Reference], steps: range, rank: int, world_size: int
) -> Iterator[dict[str, Any]]:
    """Episodes of `rank`, made on the fly: rows with task, step, and the views and labels of both parts, in order.

    The same rows as from a store: both are drawn by the same plan from the same generator.
    """
    parts = split_references([r.reference_id for r in usable], config.synthesize.query_fraction, config.seed)
    by_part: dict[Part, list[Reference]] = {
        part: sorted((r for r in usable if parts[r.reference_id] == part), key=lambda r: r.reference_id)
        for part in ("support", "query")
    }
    num_references: dict[Part, int] = {part: len(members) for part, members in by_part.items()}
    names = sorted(task_names(config))  # the order a store has them in
    plans = [
        plan
        for step in steps
        for plan in episodes_of_step(names, step, num_references, config.meta, config.seed, rank, world_size)
    ]
    if not plans:
        return
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    maker = EpisodeMaker(synthesizer_of(config), by_part, tuple(plans))
    dataset = ray.data.range(len(plans), override_num_blocks=len(plans)).map(maker.make, compute=TaskPoolStrategy())
    yield from dataset.iter_rows()


@dataclass(frozen=True)
class EpisodeMaker:
    """Makes the planned episodes; runs in Ray Data's workers."""

    synthesizer: Synthesizer
    by_part: dict[Part, list[Reference]]
    plans: tuple[EpisodePlan, ...]

    def make(self, row: dict[str, Any]) -> dict[str, Any]:
        """Plan number `id` -> its task, step, and the views and labels of both parts."""
        keep_freed_memory()
        plan = self.plans[row["id"]]
        support, query = self._rows(plan.task, "support", plan.support), self._rows(plan.task, "query", plan.query)
        return {
            "task": plan.task,
            "step": plan.step,
            "support_views": np.stack([r.view_HW3 for r in support]),
            "support_quality": np.array([r.quality for r in support], dtype=np.float32),
            "query_views": np.stack([r.view_HW3 for r in query]),
            "query_quality": np.array([r.quality for r in query], dtype=np.float32),
        }

    def _rows(self, task: str, part: Part, pairs: Sequence[tuple[int, int]]) -> list[TaskRow]:
        return [self.synthesizer.rows_of(self.by_part[part][index], part)(task, level) for index, level in pairs]
