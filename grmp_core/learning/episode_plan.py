"""Which rows of which tasks an outer step learns from, drawn from the seed alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grmp_core.errors import InputError
from grmp_core.learning.settings import MetaConfig
from grmp_core.seeds import generator_of
from grmp_core.tasks.distortion_tasks import LEVELS, Part


@dataclass(frozen=True)
class EpisodePlan:
    """Which rows make one task's batches in one outer step: pairs (index of a reference in its part, level)."""

    task: str
    step: int
    support: tuple[tuple[int, int], ...]
    query: tuple[tuple[int, int], ...]


def plan_episode(
    task: str, step: int, num_references: Mapping[Part, int], config: MetaConfig, seed: int, number: int = 0
) -> EpisodePlan:
    """Draw the rows of a task's episode from (seed, step, task, number) alone; none comes twice while there are enough.

    `number`: which of the step's `episodes_per_task` episodes it is. With `meta.loss: triplet` every batch begins with
    a new reference, and holds all levels of a reference, the mildest first, before it comes to the next one.
    """
    rng = generator_of("episode", seed, step, task, *([number] if number else []))
    num_rows = config.batch_size * config.inner_steps

    def draw(part: Part) -> tuple[tuple[int, int], ...]:
        available = num_references[part] * len(LEVELS)
        rounds = [rng.permutation(available) for _ in range(math.ceil(num_rows / available))]
        return tuple((int(i) // len(LEVELS), LEVELS[int(i) % len(LEVELS)]) for i in np.concatenate(rounds)[:num_rows])

    def draw_references(part: Part) -> tuple[tuple[int, int], ...]:
        available, whole = num_references[part], math.ceil(config.batch_size / len(LEVELS))
        wanted = whole * config.inner_steps
        drawn = np.concatenate([rng.permutation(available) for _ in range(math.ceil(wanted / available))])[:wanted]
        batches = [
            [(int(i), level) for i in batch for level in LEVELS] for batch in np.split(drawn, config.inner_steps)
        ]
        return tuple(pair for batch in batches for pair in batch[: config.batch_size])

    drawing = draw_references if config.loss == "triplet" else draw
    return EpisodePlan(task, step, drawing("support"), drawing("query"))


def tasks_of_step(tasks: Sequence[str], step: int, config: MetaConfig, seed: int) -> list[str]:
    """The tasks of an outer step: all, or `tasks_per_step` drawn from (seed, step); always in the given order."""
    if config.tasks_per_step in (0, len(tasks)):
        return list(tasks)
    if config.tasks_per_step > len(tasks):
        raise InputError(f"meta.tasks_per_step {config.tasks_per_step} is more than the {len(tasks)} tasks there are")
    chosen = generator_of("tasks", seed, step).choice(len(tasks), config.tasks_per_step, replace=False)
    return [tasks[i] for i in sorted(chosen)]


def episodes_of_step(
    tasks: Sequence[str],
    step: int,
    num_references: Mapping[Part, int],
    config: MetaConfig,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> list[EpisodePlan]:
    """The episodes of an outer step that fall to worker `rank`: every world_size-th of all of them."""
    chosen = tasks_of_step(tasks, step, config, seed)
    numbered = [(task, number) for number in range(config.episodes_per_task) for task in chosen]
    return [plan_episode(task, step, num_references, config, seed, n) for task, n in numbered[rank::world_size]]
