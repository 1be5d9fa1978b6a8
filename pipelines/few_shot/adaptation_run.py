"""Adapt the pre-trained prompts to all labelled images of the target, once a sweep has chosen lambda."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from grmp_core.evaluation.protocol import Protocol
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.learning.few_shot import AdaptResult, adapt, folds_of
from grmp_core.model.backbone import dtype_of
from grmp_core.model.bundle import LEARNED_FROM, Bundle, write_bundle
from pipelines.configuration.loading import LAMBDA
from pipelines.configuration.schema import Config
from pipelines.few_shot.adapted_bundle import adapted_bundle
from pipelines.few_shot.encoded_target import EncodedTarget, encode_target
from pipelines.few_shot.labelled_target import bad_rows, load_target
from pipelines.few_shot.starting_model import check_adaptation, compute_device, initial_prompts, process_model
from pipelines.results.sweep_folder import SweepFolder, TrialFolder
from pipelines.runtime.capacity import require_trial
from pipelines.runtime.computing import prepare_to_compute
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.runtime.ray_session import ray_session
from pipelines.tracking.run_records import PROMPTS
from pipelines.tracking.tracker import open_tracking


@dataclass(frozen=True)
class Adaptation:
    """Result of `grmp adapt`."""

    bundle: str
    images: int
    epochs: int
    val_srcc: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def as_text(self) -> str:
        row = {"images": self.images, "epochs": self.epochs, "val SRCC": self.val_srcc, "seconds": round(self.seconds)}
        return f"{table([row])}\n{self.bundle}"


def settings_of_sweep(config: Config, given: Sequence[str]) -> dict[str, Any]:
    """Lambda and searched settings as the sweep of this output chose them, by key; empty where it chose nothing.

    Args:
        given: keys, or sections of keys, that the user has set and that stay as they are.
    """
    folder = SweepFolder.of(config.output)
    chosen = folder.chosen()
    if chosen is None:
        return {}
    settings = {LAMBDA: chosen.strength, **(chosen.settings or {})}
    taken = {key: value for key, value in settings.items() if not any(f"{key}.".startswith(f"{g}.") for g in given)}
    if taken:
        text = ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in taken.items()
        )
        say(f"adapt: {text}, as the sweep at {folder.uri} chose; override it with --set")
    return taken


def adapt_to_all_labels(config: Config) -> Adaptation:
    """Write the bundle `<output>/adapt/bundle`. Every label is used; lambda is adapt.qgr.strength."""
    started = time.time()
    tracking = open_tracking(config)  # refuses an output without a store before any work is done
    folder = TrialFolder(output_folder(config, "adapt"))
    start = initial_prompts(config)
    target = load_target(config.target)
    check_adaptation(config, start)
    folds_of(config.adapt, target.reference_ids, config.seed)  # refuses too few labels before they are encoded
    with ray_session():
        require_trial(config, "adapting wants")
        everything = Protocol(splits=SplitTable(reference_ids=tuple(target.reference_ids)), quality_N=target.quality)
        encoded = encode_target(config, target, start, everything, config.sweep.gpus_per_trial)
        task = ray.remote(num_cpus=config.sweep.cpus_per_trial, num_gpus=config.sweep.gpus_per_trial)(_adapt)
        result = ray.get(task.remote(config, start, encoded))
    about = {"shots": len(encoded.mos), LEARNED_FROM: list(encoded.image_ids)}
    labelled = encoded.views(np.arange(len(encoded.mos)), dtype_of(config.precision), torch.device("cpu"))
    bundle = adapted_bundle(config, start, result, labelled, target.score_range, about)
    write_bundle(folder.bundle, bundle)
    folder.write_history(result)
    rejected = (*bad_rows(target), *encoded.unreadable)
    counts = {"images": len(encoded.mos), "epochs": result.epochs, "val_srcc": float(result.val_srcc)}
    inputs = {"target": target.fingerprint(), PROMPTS: start.digest}
    write_manifest(folder.root, "adapt", config, started, inputs=inputs, counts=counts, rejected=rejected)
    tracking.log("adapt", folder.root)
    return Adaptation(folder.bundle.uri, len(encoded.mos), result.epochs, result.val_srcc, time.time() - started)


def _adapt(config: Config, start: Bundle, encoded: EncodedTarget) -> AdaptResult:
    prepare_to_compute(config.sweep.cpus_per_trial)
    device = compute_device(config.sweep.gpus_per_trial)
    model = process_model(config, start, device)
    views = encoded.views(np.arange(len(encoded.mos)), model.dtype, device)
    result = adapt(
        model,
        model.adaptable_parameters(start.parameters),
        views,
        config.adapt,
        config.seed,
        on_epoch=lambda record: say(f"adapt: epoch {record.epoch}, quality loss {record.quality_loss:.4f}"),
    )
    cpu = {name: tensor.cpu() for name, tensor in result.parameters.items()}
    return dataclasses.replace(result, parameters=cpu)
