"""Adapt the pre-trained prompts to all labelled images of the target, once a sweep has settled lambda."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from grmp_core.adapt import AdaptResult, adapt, folds_of
from grmp_core.bundle import LEARNED_FROM, Bundle, write_bundle
from grmp_core.datasets import ScoreRange
from pipelines.config import Config
from pipelines.resources import require_trial
from pipelines.session import output_place, ray_session, say, table, versions, write_manifest
from pipelines.target import (
    EncodedTarget,
    bad_rows,
    check_adaptation,
    compute_device,
    encode_target,
    initial_prompts,
    load_target,
    process_model,
)


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


def run(config: Config) -> Adaptation:
    """Write the bundle `<output>/adapt/bundle`. Every label is used; lambda is adapt.qgr.strength."""
    started = time.time()
    place = output_place(config, "adapt")
    start = initial_prompts(config)
    target = load_target(config.target)
    check_adaptation(config, start)
    folds_of(config.adapt, target.reference_ids, config.seed)  # refuses too few labels before they are encoded
    with ray_session():
        require_trial(config, "adapting wants")
        encoded = encode_target(config, target, start, config.sweep.gpus_per_trial)
        task = ray.remote(num_cpus=config.sweep.cpus_per_trial, num_gpus=config.sweep.gpus_per_trial)(_adapt)
        result = ray.get(task.remote(config, start, encoded))
    about = {"shots": len(encoded.mos), LEARNED_FROM: list(encoded.image_ids)}
    bundle = adapted_bundle(config, start, result, target.score_range, about)
    write_bundle(place / "bundle", bundle)
    history = [dataclasses.asdict(record) for record in result.history]
    (place / "history.json").write_json({"history": history, "val_srcc_by_epoch": result.val_srcc_by_epoch})
    rejected = (*bad_rows(target), *encoded.unreadable)
    counts = {"images": len(encoded.mos), "epochs": result.epochs}
    inputs = {"target": target.fingerprint()}
    write_manifest(place, "adapt", config, started, inputs=inputs, counts=counts, rejected=rejected)
    return Adaptation((place / "bundle").uri, len(encoded.mos), result.epochs, result.val_srcc, time.time() - started)


def adapted_bundle(
    config: Config, start: Bundle, result: AdaptResult, score_range: ScoreRange, about: dict[str, Any]
) -> Bundle:
    """The adapted tensors, with the prompts that did not move, and where they come from."""
    prompts = {name: tensor for name, tensor in start.parameters.items() if name not in result.parameters}
    return Bundle(
        kind="model",
        backbone=config.backbone.at_home(),
        backbone_sha256=start.backbone_sha256,
        prompts=start.prompts,
        views=config.views,
        precision=config.precision,
        parameters={**prompts, **result.parameters},
        score_range=score_range,
        metrics={"val_srcc": float(result.val_srcc)},
        provenance={
            "lambda": config.adapt.qgr.strength,
            **about,
            "epochs": result.epochs,
            "target": config.target.dataset,
            "pretraining": start.provenance,
            "seed": config.seed,
            "versions": versions(),
        },
    )


def _adapt(config: Config, start: Bundle, encoded: EncodedTarget) -> AdaptResult:
    torch.set_num_threads(max(1, int(config.sweep.cpus_per_trial)))
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


if __name__ == "__main__":
    from pipelines.cli import module_main

    module_main("adapt")
