"""`grmp continual`: sets are encoded, learned from one after the other, and every model is tested on every set.

A step begins only when the one before has ended, and reads of earlier sets nothing but the bundle before it (joint
training excepted). What is on disk stays: the same command again goes on, and with more sets it goes further.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from grmp_core.continual.stream_metrics import StreamMetrics, stream_metrics
from grmp_core.errors import InputError
from grmp_core.identity import Identity, listed
from grmp_core.model.bundle import Bundle, read_bundle
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import bad_rows
from pipelines.few_shot.starting_model import (
    check_adaptation,
    compute_device,
    initial_prompts,
    process_model,
    read_prompts,
)
from pipelines.results.stream_folder import Cell, StreamFolder
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import write_manifest
from pipelines.streaming_sets.encoded_sets import EncodedSet
from pipelines.streaming_sets.stream_sets import (
    StreamSet,
    check_shared_images,
    config_of_set,
    protocol_of,
    read_sets,
    say_gone,
)
from pipelines.streaming_sets.stream_step import Step, method_adaptation
from pipelines.streaming_sets.workers import Workers, on_ray
from pipelines.tracking.system_metrics import system_metrics
from pipelines.tracking.tracker import open_tracking


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Result of `grmp continual`."""

    folder: str
    sets: tuple[str, ...]
    bundles: tuple[str, ...]
    """Of every step."""
    srcc_TT: np.ndarray
    """A row a step, a column a set; NaN where a set's test part is gone or SRCC is not defined."""
    choice_TM: np.ndarray | None
    """A row a set, a column a head of the last step's gate; null without a gate."""
    metrics: StreamMetrics
    run_id: str
    """In MLflow; empty where it is not logged."""

    def as_json(self) -> dict[str, Any]:
        content = {"folder": self.folder, "sets": list(self.sets), "bundles": list(self.bundles)}
        choice = None if self.choice_TM is None else self.choice_TM.tolist()
        measured = {"srcc": self.srcc_TT.tolist(), "choice": choice, **dataclasses.asdict(self.metrics)}
        return {**content, **measured, "run_id": self.run_id}

    def as_text(self) -> str:
        parts = ["SRCC on every set's test images:", _table("after", self.sets, self.srcc_TT)]
        if self.choice_TM is not None:
            parts += ["", "Share of a set's test images for which each head weighs most:"]
            parts += [_table("set", self.sets, self.choice_TM)]
        parts += ["", "  ".join(f"{name} {value:.3f}" for name, value in dataclasses.asdict(self.metrics).items())]
        return "\n".join([*parts, self.bundles[-1]])


def run_stream(config: Config, work_at: Callable[[Config], AbstractContextManager[Workers]] = on_ray) -> Stream:
    """Learn from `continual.sets` in `<output>/continual/<method>`. InputError for sets that do not make a stream."""
    started = time.time()
    folder = StreamFolder.of(config.output, config.continual.method)
    sets = read_sets(config.continual.sets)
    names = [one.name for one in sets]
    folder.check_order(names)
    config = dataclasses.replace(config, adapt=method_adaptation(config.adapt, config.continual.method))
    start = _start(config, sets)
    check_adaptation(config, start)
    tracker = open_tracking(config)
    with work_at(config) as workers, system_metrics(config, folder.root, "stream"):
        encoded = _encoded(config, start, sets, workers)
        check_shared_images({one.name: store.image_ids for one, store in zip(sets, encoded, strict=True)})
        bundles = _learn_all(config, start, folder, sets, encoded, workers)
        srcc_TT, choice_TM = _measure_all(config, start, folder, names, bundles, encoded, workers)
    steps = folder.steps()
    choice = None if choice_TM is None else pd.DataFrame(choice_TM, names, names)
    folder.write_tables(pd.DataFrame(srcc_TT, steps, names), choice)
    metrics = stream_metrics(srcc_TT)
    facts = {one.name: store.facts() for one, store in zip(sets, encoded, strict=True)}
    counts = {**dataclasses.asdict(metrics), "images": {n: len(f["train"]["image_id"]) for n, f in facts.items()}}
    rejected = [reject for one in sets if one.labelled is not None for reject in bad_rows(one.labelled)]
    rejected += [reject for fact in facts.values() for reject in fact["unreadable"]]
    labels = {name: fact["identity"]["settings"]["target"] for name, fact in facts.items()}
    write_manifest(folder.root, "continual", config, started, inputs=labels, counts=counts, rejected=rejected)
    return Stream(
        folder=folder.root.uri,
        sets=tuple(names),
        bundles=tuple(bundles),
        srcc_TT=srcc_TT,
        choice_TM=choice_TM,
        metrics=metrics,
        run_id=tracker.log("stream", folder.root),
    )


def _start(config: Config, sets: Sequence[StreamSet]) -> Bundle:
    """The prompts that the stream starts from. InputError where they have seen the scores of one of its sets."""
    place = config.continual.start
    for one in sets:
        with_set = config_of_set(config, one)
        start = initial_prompts(with_set) if place is None else read_prompts(with_set, locate(place))
    return start


def _encoded(config: Config, start: Bundle, sets: Sequence[StreamSet], workers: Workers) -> list[EncodedSet]:
    """All sets on disk. What is wrong with one is said before any is encoded."""
    first_block = process_model(config, start, compute_device(0)).first_adapting_block
    decisive: dict[str, object] = {
        "start": start.digest,
        "views": config.views,
        "images": config.images,
        "precision": config.precision,
        "seed": config.seed,
        "first_block": first_block,
        "sweep.test_fraction": config.sweep.test_fraction,
        "split_seed": config.sweep.split_seeds[0],
    }
    stores, to_do = [], []
    for one in sets:
        store = EncodedSet(locate(config.output) / "continual" / "sets" / one.name)
        stores.append(store)
        if one.labelled is not None:
            protocol = protocol_of(config, one, one.labelled)
            splits = protocol.splits.digest or config.sweep.splits
            identity = store.identity(decisive, (one.labelled.fingerprint(), splits))
            if not store.is_here(identity):
                to_do.append((one, one.labelled, store, identity, protocol))
        elif store.is_here():
            store.is_here(store.identity(decisive, None))
            say_gone(one)
        else:
            raise InputError(f"set {one.name}: {one.gone_because}")
    for one, labelled, store, identity, protocol in to_do:
        say(f"continual: encoding {len(labelled)} images of {one.name}")
        target = workers.encode(config_of_set(config, one), labelled, start, protocol)
        split = target.protocol.parts(config.sweep.split_seeds[0])
        store.write(identity, target, split, labelled.score_range, one.target.dataset)
    return stores


def _learn_all(
    config: Config,
    start: Bundle,
    folder: StreamFolder,
    sets: Sequence[StreamSet],
    encoded: Sequence[EncodedSet],
    workers: Workers,
) -> list[str]:
    """The bundle of every step; steps that have ended are kept."""
    bundles: list[str] = []
    for number, one in enumerate(sets, start=1):
        trial = folder.step(number, one.name)
        digests = [store.digest for store in encoded[:number]]
        identity = _identity(config, start, bundles[-1] if bundles else None, digests)
        changes = trial.changes(identity)
        if changes:
            raise InputError(
                f"step {number} of the stream at {folder.root.uri} was made otherwise ({listed(changes)}), and a "
                "stream keeps its models; give another output"
            )
        if trial.result(identity) is None:
            say(f"continual: step {number} of {len(sets)}, {one.name}, {config.continual.method}")
            step = Step(
                config=config_of_set(config, one),
                start=start,
                name=one.name,
                folder_uri=trial.root.uri,
                before_uri=bundles[-1] if bundles else None,
                set_uris=tuple(store.root.uri for store in encoded[:number]),
                identity=identity,
            )
            workers.learn(step)
        bundles.append(trial.bundle.uri)
    return bundles


def _identity(config: Config, start: Bundle, before_uri: str | None, digests: Sequence[str]) -> Identity:
    """Every setting and input that decides about a step's model."""
    continual = config.continual
    gated = continual.method == "own_norms"
    return Identity.of(
        {
            "method": continual.method,
            "adapt": config.adapt,
            "seed": config.seed,
            "start": start.digest,
            "before": None if before_uri is None else read_bundle(locate(before_uri)).digest,
            "sets": list(digests if continual.method == "joint" else digests[-1:]),
            "gate": [continual.centres, continual.sharpness] if gated else None,
        }
    )


def _measure_all(
    config: Config,
    start: Bundle,
    folder: StreamFolder,
    names: Sequence[str],
    bundles: Sequence[str],
    encoded: Sequence[EncodedSet],
    workers: Workers,
) -> tuple[np.ndarray, np.ndarray | None]:
    """SRCC of every step on every set, and the last gate's choice; what was measured before is kept."""
    known: dict[tuple[str, str], Cell] = {}
    steps, digests = folder.steps(), [read_bundle(locate(uri)).digest for uri in bundles]
    tests = dict(zip(names, [store.digest for store in encoded], strict=True))
    for step, uri, digest in zip(steps, bundles, digests, strict=True):
        found = {name: folder.cell(step, name, digest, tests[name]) for name in names}
        missing = [i for i, name in enumerate(names) if found[name] is None and encoded[i].has_test_part()]
        cells = workers.measure(config, start, uri, [encoded[i].root.uri for i in missing]) if missing else []
        for i, cell in zip(missing, cells, strict=True):
            folder.write_cell(step, names[i], digest, tests[names[i]], cell)
            found[names[i]] = cell
        known |= {(step, name): cell for name, cell in found.items() if cell is not None}
    gone = sum((step, name) not in known for step in steps for name in names)
    if gone:
        say(f"continual: {gone} of {len(steps) * len(names)} tests cannot be made, since test parts are gone")
    nothing = Cell(srcc=math.nan, images=0)
    rows = [[known.get((step, name), nothing) for name in names] for step in steps]
    choice = [cell.choice or (math.nan,) * len(names) for cell in rows[-1]]
    gated = config.continual.method == "own_norms"
    return np.array([[cell.srcc for cell in row] for row in rows]), np.array(choice) if gated else None


def _table(first: str, names: Sequence[str], values_TT: np.ndarray) -> str:
    rows: list[Mapping[str, Any]] = [
        {first: name, **{other: f"{value:.3f}" for other, value in zip(names, row, strict=True)}}
        for name, row in zip(names, values_TT, strict=True)
    ]
    return table([dict(row) for row in rows])
