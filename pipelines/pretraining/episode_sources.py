"""The episodes of pre-training, from a task store or made on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from grmp_core.errors import InputError
from grmp_core.learning.episode_plan import episodes_of_step
from grmp_core.learning.meta_pretraining import Episode, make_episode
from grmp_core.tasks.task_store import TaskStore
from pipelines.configuration.schema import Config
from pipelines.runtime.provenance import output_folder
from pipelines.task_making.episode_stream import stream_episodes
from pipelines.task_making.picture_sources import Reference, task_names, view_size_px
from pipelines.task_making.task_writer import Plan, label_rule

KEPT_BYTES = 1 << 30
"""Views of the store that a worker keeps in memory: most workers get the same tasks in every step."""
EPISODES_AHEAD = 2
"""Episodes that are read while one is learned."""


def check_store(store: TaskStore, config: Config) -> Plan:
    """-> the store's plan. InputError when it is not whole, or not what the configuration asks for."""
    size_px = view_size_px(config)
    if store.size_px != size_px:
        raise InputError(
            f"task store {store.root.uri} holds {store.size_px} px views, {config.backbone.name} wants {size_px} px; "
            "synthesize again into another output"
        )
    tasks = set(task_names(config))
    if tasks != set(store.tasks):
        different = sorted(tasks ^ set(store.tasks))
        raise InputError(
            f"task store {store.root.uri} and synthesize.tasks differ in {', '.join(different[:5])}; "
            "run `grmp synthesize` with these settings into another output"
        )
    plan = Plan.of(store.root)
    now = label_rule(plan.source, config, store.tasks)
    if plan.labels != now:
        raise InputError(
            f"task store {store.root.uri} has labels by '{plan.labels}', synthesize.labels now makes "
            f"'{now}'; set it to what the store has, or run `grmp synthesize` into another output"
        )
    there = {name for names in store.reference_ids.values() for name in names}
    if there != set(plan.references):
        raise InputError(
            f"task store {store.root.uri} holds {len(there)} of its {len(plan.references)} references: it was "
            "interrupted; run `grmp synthesize` again to complete it"
        )
    return plan


def stored_episodes(
    config: Config, steps: range, rank: int, world_size: int, device: torch.device
) -> Iterator[tuple[int, Episode]]:
    """This worker's episodes of all outer steps, each with its step, read from the task store while others learn."""
    store = TaskStore(output_folder(config, "tasks"), KEPT_BYTES)

    def read() -> Iterator[tuple[int, Episode]]:
        for step in steps:
            for plan in episodes_of_step(
                store.tasks, step, store.num_references, config.meta, config.seed, rank, world_size
            ):
                support = store.read(plan.task, "support", plan.support)
                query = store.read(plan.task, "query", plan.query)
                yield step, make_episode(plan.task, support, query, config.meta, device)

    return ahead(read(), EPISODES_AHEAD)


def streamed_episodes(
    config: Config, usable: list[Reference], steps: range, rank: int, world_size: int, device: torch.device
) -> Iterator[tuple[int, Episode]]:
    """The same, made on the way."""
    for row in stream_episodes(config, usable, steps, rank, world_size):
        support = (row["support_views"], row["support_quality"])
        query = (row["query_views"], row["query_quality"])
        yield row["step"], make_episode(row["task"], support, query, config.meta, device)


def by_step(episodes: Iterator[tuple[int, Episode]]) -> Callable[[int], Iterator[Episode]]:
    """-> from an outer step to its episodes; the steps must be asked for in order."""
    waiting: list[tuple[int, Episode]] = []

    def episodes_of(step: int) -> Iterator[Episode]:
        while pair := (waiting.pop() if waiting else next(episodes, None)):
            if pair[0] != step:
                waiting.append(pair)
                return
            yield pair[1]

    return episodes_of


def ahead(items: Iterator[tuple[int, Episode]], count: int) -> Iterator[tuple[int, Episode]]:
    """The same items, the next `count` of which a thread has ready or is about to make; what it raises comes in its
    place."""
    with ThreadPoolExecutor(1) as thread:
        end: Any = object()
        waiting = deque(thread.submit(next, items, end) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, items, end))
                yield item
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
