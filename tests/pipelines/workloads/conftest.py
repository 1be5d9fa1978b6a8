"""One undisturbed run of the workloads, a fixture a stage, that the tests compare theirs with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grmp_core.imaging.views import ViewConfig
from grmp_core.learning.settings import AdaptConfig, MetaConfig
from grmp_core.model.bundle import read_bundle
from grmp_core.storage import locate
from grmp_core.tasks.task_store import TaskStore
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.pretraining import PretrainConfig, SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import SweepConfig
from pipelines.pretraining.pretraining_run import pretrain_prompts
from pipelines.sweeping import sweep_run
from pipelines.sweeping.sweep_run import run_sweep
from pipelines.task_making.synthesis import synthesize
from tests.pipelines.workloads.small import TASKS, labelled_folder


@pytest.fixture(scope="session")
def output(tmp_path_factory, ray_instance) -> Path:
    return tmp_path_factory.mktemp("workloads")


@pytest.fixture(scope="session")
def config(output, mlflow_store) -> Config:
    return Config(
        output=str(output / "run"),
        views=ViewConfig(train_views=2, score_grid=2),
        synthesize=SynthesizeConfig(references=5, tasks=TASKS, references_per_block=2),
        meta=MetaConfig(outer_steps=4, batch_size=3, outer_lr=0.5),
        pretrain=PretrainConfig(workers=0, checkpoint_every=1),
        target=TargetConfig(path=str(labelled_folder(output / "target")), score_min=0, score_max=10),
        adapt=AdaptConfig(epochs=2, folds=2, lr=0.01),
        sweep=SweepConfig(lambdas=(0.0, 5.0), shots=(6,), split_seeds=(0,)),
        tracking=TrackingConfig(uri=mlflow_store.uri),
    )


@pytest.fixture(scope="session")
def store(config) -> TaskStore:
    synthesize(config)
    return TaskStore(locate(config.output) / "tasks")


@pytest.fixture(scope="session")
def prompts(config, store) -> dict[str, torch.Tensor]:
    """Pre-training in one process, undisturbed: what every other way must equal."""
    return read_bundle(locate(pretrain_prompts(config).bundle)).parameters


@pytest.fixture(scope="session")
def swept(config, prompts) -> sweep_run.Sweep:
    return run_sweep(config)
