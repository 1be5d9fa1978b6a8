"""Configuration of the demo, and its drawn pictures with calibrated labels."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pandas as pd

from grmp_core.distortions import compose, draw_composition
from grmp_core.labels.human_means import quality_of_composition
from grmp_core.learning.settings import MetaConfig
from grmp_core.procedural import scenes
from grmp_core.seeds import generator_of
from grmp_core.storage import Location
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.pretraining import PretrainConfig, SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ScoreConfig
from pipelines.configuration.sweeping import SweepConfig

NUM_TARGET_IMAGES = 120


NUM_NEW_IMAGES = 6


FIRST_TARGET_SEED = 10_000
"""First reference number of the target, far from those that pre-training uses."""


LABELS = "labels are calibrated synthetic ones, not human ratings"


TASKS = ("gaussian_blur", "motion_blur", "jpeg", "jpeg2000", "white_noise", "brighten", "darken", "pixelate")


def demo_config(config: Config, output: Location) -> Config:
    """`config` with the data and sizes of the demo, which takes minutes on two cores."""
    return dataclasses.replace(
        config,
        synthesize=SynthesizeConfig(references=24, tasks=TASKS),
        meta=MetaConfig(outer_steps=8, inner_steps=2, batch_size=12, inner_lr=1e-3, outer_lr=1.0),
        pretrain=PretrainConfig(workers=2, checkpoint_every=4),
        target=TargetConfig(
            dataset="table",
            path=(output / "target" / "labels.csv").uri,
            score_min=0.0,
            score_max=100.0,
            note=f"In this demo the {LABELS}: read 'people' and 'human' below accordingly.",
        ),
        adapt=dataclasses.replace(config.adapt, epochs=9, folds=2, eval_every=3),
        sweep=SweepConfig(lambdas=(0.0, 1.0, 5.0), shots=(16, 48), split_seeds=(0, 1)),
        score=ScoreConfig(images=((output / "new").uri,)),
    )


def draw_target(folder: Location, seed: int) -> None:
    """Write labelled pictures as a user would bring them: PNG files, and labels.csv with scores from 0 to 100.

    A score is the calibrated label of the distortions of its picture. A target that is there is left alone.
    """
    labels = folder / "labels.csv"
    if labels.exists():
        return
    rows = []
    for i in range(NUM_TARGET_IMAGES):
        rng = generator_of("demo target", seed, i)
        parts = draw_composition(rng, max_parts=2)
        image = compose(scenes.reference(FIRST_TARGET_SEED + i), parts, rng)
        name = f"photo_{i:03d}.png"
        write_png(folder / name, image)
        rows.append({"image": name, "mos": round(100 * quality_of_composition(parts), 2)})
    labels.write_bytes(pd.DataFrame(rows).to_csv(index=False).encode())


def draw_new_images(folder: Location, seed: int) -> None:
    """Write one new picture, clean and at five levels of Gaussian blur; its scores should fall."""
    clean = scenes.reference(FIRST_TARGET_SEED + NUM_TARGET_IMAGES + 1 + seed)
    write_png(folder / "blur_0.png", clean)
    for level in range(1, NUM_NEW_IMAGES):
        rng = generator_of("demo new", seed, level)
        write_png(folder / f"blur_{level}.png", compose(clean, (("gaussian_blur", float(level)),), rng))


def write_png(file: Location, image: np.ndarray) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    file.write_bytes(data.tobytes())
