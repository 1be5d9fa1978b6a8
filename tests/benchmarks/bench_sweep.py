"""Cost of a sweep beyond its trials: `python -m tests.benchmarks.bench_sweep [--shots 10 25 50] [--splits 5]`.

Wall time of `grmp sweep` times the trials that run at a time, over the time the same work takes in one plain process:
every image encoded once, then trial after trial, with nothing started, shared or written. Both in this run, on photos
of LIVE-in-the-Wild (GRMP_SHARED_DATA, else ../shared/data) and the embedded backbone. 1 would be no overhead at all;
a whole command also starts Ray, once, which is given apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import ray
import torch

from grmp_core.evaluation.metrics import evaluate
from grmp_core.evaluation.protocol import Protocol
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.learning.few_shot import adapt, predict_quality
from grmp_core.learning.labelled_views import Prefix
from grmp_core.learning.settings import AdaptConfig
from grmp_core.model.bundle import write_bundle
from grmp_core.model.settings import TrainableConfig
from grmp_core.storage import locate
from pipelines.ablation.arms import random_prompts
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.models import TrackingConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import SweepConfig
from pipelines.few_shot.encoded_target import EncodedTarget
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.starting_model import adapting_model, initial_prompts, process_model
from pipelines.few_shot.target_encoder import Encoder
from pipelines.few_shot.token_cache import ARRAYS
from pipelines.runtime.ray_session import ray_session
from pipelines.sweeping.grid import plan_trials
from pipelines.sweeping.sweep_run import run_sweep


def encode_plainly(config: Config) -> tuple[EncodedTarget, float]:
    """The target as the sweep encodes it, in this process; -> it, and the seconds that took."""
    start, target = initial_prompts(config), load_target(config.target)
    columns = target.table.to_pydict()
    model = process_model(config, start, torch.device("cpu"))
    encoder = Encoder(config, start, [(Prefix.of(model, start.parameters), False)])
    began = time.perf_counter()
    output = encoder({"row": np.arange(target.table.num_rows), "path": columns["image_path"]})
    seconds = time.perf_counter() - began
    names = {"train_tokens": "train_tokens_0", "score_tokens": "score_tokens_0"}
    arrays = {name: np.stack(output[names.get(name, name)]) for name in ARRAYS}
    quality, references = np.array(columns["quality"]), tuple(columns["reference_id"])
    return EncodedTarget(
        image_path=tuple(columns["image_path"]),
        image_ids=tuple(output["image_id"]),
        reference_ids=references,
        perceptual_hashes=np.array([int(value, 16) for value in output["perceptual_hash"]], dtype=np.uint64),
        mos=np.array(columns["mos"]),
        quality=quality,
        row=np.arange(len(quality)),
        unreadable=(),
        protocol=Protocol(splits=SplitTable(reference_ids=references), quality_N=quality),
        held=arrays,
    ), seconds


def bare_trials(config: Config, encoded: EncodedTarget) -> list[float]:
    """Seconds of every trial of the grid, one after the other in this process."""
    start, device = initial_prompts(config), torch.device("cpu")
    model = adapting_model(config, start, device)
    seconds = []
    for trial in plan_trials(config, encoded.protocol):
        began = time.perf_counter()
        qgr = dataclasses.replace(config.adapt.qgr, strength=trial.strength)
        split = encoded.protocol.parts(trial.split_seed)
        rows = encoded.protocol.labelled(split, trial.shots)
        views = encoded.views(rows, model.dtype, device)
        settings = dataclasses.replace(config.adapt, qgr=qgr)
        result = adapt(model, model.adaptable_parameters(start.parameters), views, settings, trial.split_seed)
        test = encoded.views(split.test, model.dtype, device)
        predicted = predict_quality(model, result.parameters, test.score_tokens_NGTD).numpy()
        evaluate(predicted, encoded.mos[split.test])
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("GRMP_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(shared) / "livec" / "ChallengeDB_release")
    parser.add_argument("--max-reject-fraction", type=float, default=1.0, help="share of the photos that may be absent")
    parser.add_argument("--shots", type=int, nargs="+", default=[10, 25, 50, 100, 200])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            output=folder,
            target=TargetConfig(
                dataset="livec", path=str(arguments.data), max_reject_fraction=arguments.max_reject_fraction
            ),
            precision="bf16",
            adapt=AdaptConfig(
                epochs=arguments.epochs, lr=0.3, eval_every=5, trainable=TrainableConfig(vision_blocks=0)
            ),
            sweep=SweepConfig(
                lambdas=(0.0, 1.0, 5.0), shots=tuple(arguments.shots), split_seeds=tuple(range(arguments.splits))
            ),
            tracking=TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"),
        )
        measure(config)


def measure(config: Config) -> None:
    write_bundle(locate(config.output) / "pretrain" / "bundle", random_prompts(config))
    encoded, encoding = encode_plainly(config)
    trials = bare_trials(config, encoded)
    bare = encoding + sum(trials)
    print(f"one process: {encoding:.1f} s for {len(encoded.mos)} images, {len(trials)} trials {sum(trials):.1f} s")
    began = time.perf_counter()
    with ray_session():
        started = time.perf_counter()
        at_a_time = int(ray.cluster_resources()["CPU"] / config.sweep.cpus_per_trial)
        run_sweep(config)
        wall = time.perf_counter() - started
    print(f"sweep: {wall:.1f} s, {at_a_time} trials at a time (Ray started in {started - began:.1f} s before)")
    print(f"overhead: {wall * at_a_time / bare:.2f} (wall time x trials at a time / time in one process)")


if __name__ == "__main__":
    main()
