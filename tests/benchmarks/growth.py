"""How costs grow with images, tasks and trials, three sizes of each, in one process on the embedded backbone.

    python -m tests.benchmarks --only growth workers --plot docs/pictures/growth.png

* images: scoring with nine views each
* tasks: an outer step of pre-training, views in memory
* trials: few-shot trials over one target that is encoded once, its encoding included

`scale_model` has the fourth, workers. A ratio above 1 says that a cost grows by less than its amount.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from grmp_core.learning.losses import quality_loss
from grmp_core.learning.meta_pretraining import Episode, MetaState, make_episode, meta_train
from grmp_core.learning.settings import MetaConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import write_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scorer import Scorer
from grmp_core.storage import locate
from pipelines.ablation.arms import random_prompts
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import SweepConfig
from pipelines.rendering.palette import ACCENT, RULE, STYLE, WARM, to_png
from pipelines.scoring.model_lookup import open_model
from tests.benchmarks.bench_scoring import drawn_photos
from tests.benchmarks.bench_sweep import bare_trials, encode_plainly
from tests.benchmarks.rows import Row, interleaved

SHOTS = 10
OF_CURVE = {
    "images": "scoring, images: {n}, per image",
    "tasks": "an outer step, tasks: {n}, per task",
    "trials": "encoding a target and trials on it, trials: {n}, per trial",
}


def of_images(sizes: Sequence[int], repeats: int) -> dict[int, float]:
    """Number of images -> seconds of scoring them."""
    model, bundle = open_model(load_config(None, ["score.model=backbone"]))
    scorer = Scorer(bundle, model)
    with tempfile.TemporaryDirectory() as folder:
        paths = drawn_photos(Path(folder), max(sizes))
        return _by_size({str(n): partial(scorer.score, paths[:n]) for n in sizes}, repeats)


def of_tasks(sizes: Sequence[int], repeats: int, batch: int) -> dict[int, float]:
    """Number of tasks -> seconds of an outer step."""
    config, meta = load_config(None), MetaConfig(outer_steps=1, batch_size=batch)
    model = QualityModel(load_backbone(config.backbone), config.prompts)
    rng, side = np.random.default_rng(0), model.image_size_px

    def part() -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (batch, side, side, 3), dtype=np.uint8), rng.random(batch)

    episodes = [make_episode(f"task {i}", part(), part(), meta, torch.device("cpu")) for i in range(max(sizes))]
    start = MetaState(0, model.prompt_parameters())

    def step(own: list[Episode]) -> None:
        list(
            meta_train(
                start, lambda p, x, y: quality_loss(model.predict(p, x).quality_logits_BK, y), lambda _: own, meta
            )
        )

    return _by_size({str(n): partial(step, episodes[:n]) for n in sizes}, repeats)


def of_trials(sizes: Sequence[int], images: int, epochs: int) -> dict[int, float]:
    """Number of trials -> seconds of encoding the target and of so many trials, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        paths = drawn_photos(Path(folder), images)
        table, mos = Path(folder, "labels.csv"), np.random.default_rng(0).uniform(0, 100, images)
        pd.DataFrame({"image": [Path(path).name for path in paths], "mos": mos}).to_csv(table, index=False)
        config = Config(
            output=folder,
            target=TargetConfig(path=str(table), score_min=0.0, score_max=100.0),
            sweep=SweepConfig(lambdas=(1.0,), shots=(SHOTS,), split_seeds=tuple(range(max(sizes)))),
        )
        config = dataclasses.replace(config, adapt=dataclasses.replace(config.adapt, epochs=epochs, eval_every=1))
        write_bundle(locate(folder) / "pretrain" / "bundle", random_prompts(config))
        encoded, encoding_s = encode_plainly(config)
        so_far = list(itertools.accumulate(bare_trials(config, encoded)))
    return {n: encoding_s + so_far[n - 1] for n in sizes}


def rows(quick: bool = False) -> list[Row]:
    torch.set_num_threads(1)
    if quick:
        found = {
            "images": of_images((1, 2, 3), 1),
            "tasks": of_tasks((1, 2, 3), 1, 2),
            "trials": of_trials((1, 2, 3), 14, 1),
        }
    else:
        found = {
            "images": of_images((8, 16, 32), 3),
            "tasks": of_tasks((1, 2, 4), 3, 8),
            "trials": of_trials((1, 2, 4), 40, 4),
        }
    return [row for curve, seconds in found.items() for row in _points(curve, seconds)]


def _by_size(ways: Mapping[str, partial[object]], repeats: int) -> dict[int, float]:
    return {int(size): seconds for size, seconds in interleaved(ways, repeats).items()}


def _points(curve: str, seconds: Mapping[int, float]) -> list[Row]:
    base = min(seconds)
    return [
        Row(
            what=OF_CURVE[curve].format(n=n),
            against=OF_CURVE[curve].format(n=base),
            ratio=(seconds[base] / base) / (seconds[n] / n),
            whose="own, at its smallest size",
            seconds=seconds[n],
            curve=curve,
            amount=n,
        )
        for n in seconds
    ]


# --- the picture -------------------------------------------------------------------------------------------------


def draw(found: Sequence[Row], file: Path) -> None:
    """A small chart a curve of `found`, both axes logarithmic, with a grey line of slope 1 through the first point."""
    curves = list(dict.fromkeys(row.curve for row in found if row.curve is not None))
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(curves), 2.7), layout="constrained")
        for axes, curve in zip(np.ravel(figure.subplots(1, len(curves))), curves, strict=True):
            _chart(axes, curve, [row for row in found if row.curve == curve])
        file.write_bytes(to_png(figure))


def _chart(axes: Axes, curve: str, points: Sequence[Row]) -> None:
    measured, modelled = [[row for row in points if row.modelled == kind] for kind in (False, True)]
    for kind, colour, style in ((modelled, WARM, "s--"), (measured, ACCENT, "o-")):
        if kind:
            x, y = _line(curve, kind)
            axes.plot(x, y, style, color=colour, markersize=4, label="modelled" if kind is modelled else "measured")
    x, y = _line(curve, measured)
    ends = np.array([x[0], max(row.amount or 0 for row in points)])
    axes.plot(ends, y[0] * ends / x[0], color=RULE, linewidth=1, zorder=0, label="slope 1")
    axes.set(
        xscale="log", yscale="log", xlabel=curve, ylabel="times as fast as one" if curve == "workers" else "seconds"
    )
    heights = sorted(_line(curve, measured)[1] + (_line(curve, modelled)[1] if modelled else []))
    for axis, at in (
        (axes.xaxis, sorted({row.amount or 0 for row in points})),
        (axes.yaxis, [heights[0], heights[-1]]),
    ):
        axis.set_minor_locator(NullLocator())
        axis.set_ticks(at, [f"{value:.3g}" for value in at])
    if modelled:
        axes.legend(fontsize=7.5)


def _line(curve: str, points: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Amounts, and seconds; with workers, which make a step shorter, the speed-up instead."""
    seconds = [row.seconds or 0.0 for row in points]
    return [row.amount or 0.0 for row in points], [seconds[0] / s for s in seconds] if curve == "workers" else seconds
