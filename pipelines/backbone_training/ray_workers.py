"""The training loop on workers of Ray Train: one process group, gradients averaged every step."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from grmp_core.nano.crops import CropConfig
from pipelines.backbone_training.loop import train
from pipelines.backbone_training.run_config import PATHS, RunConfig
from pipelines.runtime.ray_session import ray_session


def train_on_workers(config: RunConfig, count: int, crop_config: CropConfig = CropConfig()) -> None:  # noqa: B008
    """Train on `count` workers that all see the run's files. One that dies costs the time since the last checkpoint."""
    from ray import train as ray_train
    from ray.train.torch import TorchConfig, TorchTrainer

    from pipelines.training.workers import fit

    absolute: dict[str, Any] = {n: str(Path(getattr(config, n)).absolute()) for n in PATHS if getattr(config, n)}
    config = replace(config, **absolute)
    with ray_session():
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"run": asdict(config), "crops": asdict(crop_config)},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray_train.ScalingConfig(num_workers=count, resources_per_worker={"CPU": config.threads}),
            run_config=ray_train.RunConfig(
                name=f"train-{int(time.time())}",  # what a run goes on from is OUT/checkpoint.pt
                storage_path=str(Path(config.out) / "ray"),
                failure_config=ray_train.FailureConfig(
                    max_failures=3,
                    controller_failure_limit=0,  # type: ignore[call-arg]  # Train V2's; mypy sees V1's class
                ),
                logging_config=ray_train.LoggingConfig(log_level="WARNING"),
            ),
        )
        fit(trainer)


def _worker(settings: dict[str, Any]) -> None:
    import ray.train

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    first = ray.train.get_context().get_world_rank() == 0
    logging.getLogger("grmp").setLevel(logging.INFO if first else logging.WARNING)
    train(RunConfig(**settings["run"]), CropConfig(**settings["crops"]))
