"""Configuration of the demo, and its drawn pictures with calibrated labels."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pandas as pd

from grmp_core.distortions import compose, draw_composition
from grmp_core.evaluation.protocol import ProtocolConfig
from grmp_core.labels.human_means import quality_of_composition
from grmp_core.learning.settings import MetaConfig
from grmp_core.procedural import scenes
from grmp_core.seeds import generator_of
from grmp_core.storage import Location
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.pretraining import PretrainConfig, SynthesizeConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.scoring import ExplainConfig, ScoreConfig
from pipelines.configuration.sweeping import SweepConfig

NUM_TARGET_IMAGES = 160
"""40 of each kind of scene."""


NEW_LEVELS = (0, 2, 3, 4, 5)
"""Levels of blur of the new pictures; 0: none. Level 1 changes no pixel."""


BIAS = 0.8
"""Of the label draw, the strongest of `preregistered.yaml`."""


FIRST_TARGET_SEED = 10_000
"""First reference number of the target, far from those that pre-training uses."""


LABELS = "labels are calibrated synthetic ones, not human ratings"


BIASED = (
    f"in each split, good pictures of some kinds of scene and poor ones of the others were likelier to be labelled "
    f"(protocol.bias {BIAS:g}); the test pictures have no such bias"
)


TASKS = ("gaussian_blur", "motion_blur", "jpeg", "jpeg2000", "white_noise", "brighten", "darken", "pixelate")


def demo_config(config: Config, output: Location) -> Config:
    """`config` with the data and sizes of the demo, which takes minutes on two cores."""
    return dataclasses.replace(
        config,
        synthesize=SynthesizeConfig(references=24, tasks=TASKS),
        meta=MetaConfig(outer_steps=4, inner_steps=2, batch_size=12, inner_lr=1e-3, outer_lr=1.0),
        pretrain=PretrainConfig(workers=2, checkpoint_every=2),
        target=TargetConfig(
            dataset="table",
            path=(output / "target" / "labels.csv").uri,
            score_min=0.0,
            score_max=100.0,
            note=f"In this demo the {LABELS}: read 'people' and 'human' below accordingly. They have a scene bias: "
            f"{BIASED}.",
        ),
        protocol=ProtocolConfig(bias=BIAS, scenes=(output / "target" / "scenes.csv").uri),
        adapt=dataclasses.replace(config.adapt, epochs=9, folds=2, eval_every=3),
        sweep=SweepConfig(lambdas=(0.0, 5.0), shots=(10, 50), split_seeds=(0, 1, 2, 3)),
        score=ScoreConfig(images=((output / "new").uri,)),
        explain=ExplainConfig(images=((output / "new" / "blur_4.png").uri,)),
    )


def draw_target(folder: Location, seed: int) -> None:
    """Write labelled pictures as a user would bring them: PNG files, labels.csv with scores from 0 to 100, and
    scenes.csv with the kind of scene.

    A score is the calibrated label of the distortions of its picture, whatever the scene. A target that is there is
    left alone.
    """
    labels, kinds = folder / "labels.csv", folder / "scenes.csv"
    if labels.exists() and kinds.exists():
        return
    rows = []
    for i in range(NUM_TARGET_IMAGES):
        rng = generator_of("demo target", seed, i)
        parts = draw_composition(rng, max_parts=2)
        number = FIRST_TARGET_SEED + i
        name = f"photo_{i:03d}.png"
        write_png(folder / name, compose(scenes.reference(number), parts, rng))
        kind = scenes.KINDS[number % len(scenes.KINDS)]
        rows.append({"image": name, "mos": round(100 * quality_of_composition(parts), 2), "scene": kind})
    table = pd.DataFrame(rows)
    kinds.write_bytes(table[["image", "scene"]].to_csv(index=False).encode())
    labels.write_bytes(table[["image", "mos"]].to_csv(index=False).encode())


def draw_new_images(folder: Location, seed: int) -> None:
    """Write one new picture at `NEW_LEVELS` of Gaussian blur; its scores should fall."""
    clean = scenes.reference(FIRST_TARGET_SEED + NUM_TARGET_IMAGES + 1 + seed)
    for level in NEW_LEVELS:
        rng = generator_of("demo new", seed, level)
        parts = (("gaussian_blur", float(level)),) if level else ()
        write_png(folder / f"blur_{level}.png", compose(clean, parts, rng))


def write_png(file: Location, image: np.ndarray) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    file.write_bytes(data.tobytes())
