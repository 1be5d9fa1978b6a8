"""Streams of four sets in two orders, by every method: `python -m tests.benchmarks.continual_streams --out DIR
--photos livec.yaml ss02.yaml --start BUNDLE`.

Two sets are made here, so that they can choose settings: `kadid_like` (drawn references, each with ten of KADID-10k's
25 types and 5 levels, labels are the human means as differences, less is better) and `drawn` (drawn pictures with one
to three kinds of damage at once, labels of the compositions). `--photos` names configurations of the other two, of
which 240 images are drawn by a hash of their names; they choose nothing. Images are encoded once for all streams.

`--choose` compares settings on the two sets that are made here, and reads no photo: learning rates of the norms,
weights of the distillation, and sharpnesses of the gate.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
import yaml

from grmp_core.continual.gate import Gate
from grmp_core.distortions import KADID_NAMES, compose, draw_composition
from grmp_core.evaluation.metrics import srcc
from grmp_core.labels.human_means import quality_of_composition
from grmp_core.model.bundle import read_bundle
from grmp_core.procedural import scenes
from grmp_core.seeds import generator_of, seed_of
from grmp_core.storage import locate
from pipelines.configuration.continual import StreamMethod
from pipelines.configuration.loading import load_config, with_settings
from pipelines.configuration.schema import Config
from pipelines.demonstration.embedded_target import write_png
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.starting_model import process_model
from pipelines.streaming_sets.encoded_sets import EncodedSet
from pipelines.streaming_sets.stream_run import Stream, run_stream
from pipelines.streaming_sets.stream_step import method_adaptation, predict
from pipelines.streaming_sets.workers import in_process

IMAGES = 240
QUICK = ("adapt.epochs=4", "adapt.eval_every=2", "adapt.qgr.strength=0", "views.train_views=2", "views.score_grid=2")
"""Settings that keep the whole to minutes on two cores; all others are the preset's."""
_PER_REFERENCE = 10
_FIRST_KADID, _FIRST_DRAWN = 20_000, 30_000
CHOICES: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("own_norms", {"adapt.lr": lr}) for lr in (0.05, 0.2, 0.8)),
    *(("replay_free", {"adapt.distillation": weight}) for weight in (1.0, 10.0)),
)
SHARPNESSES = (0.0, 8.0, 32.0, 128.0)


def make_kadid_like(folder: Path) -> Path:
    rows = []
    for i in range(IMAGES):
        reference = _FIRST_KADID + i // _PER_REFERENCE
        rng = generator_of("kadid like", i)
        parts = ((str(rng.choice(KADID_NAMES)), float(rng.integers(1, 6))),)
        write_png(locate(folder / f"{i:03d}.png"), compose(scenes.reference(reference), parts, rng))
        label = 5 - 4 * quality_of_composition(parts)
        rows.append({"image": f"{i:03d}.png", "dmos": round(label, 4), "reference": scenes.reference_id(reference)})
    target = {"reference_column": "reference", "score_min": 1.0, "score_max": 5.0, "higher_is_better": False}
    return write_set(folder, rows, target)


def make_drawn(folder: Path) -> Path:
    rows = []
    for i in range(IMAGES):
        rng = generator_of("drawn", i)
        parts = draw_composition(rng, max_parts=3)
        write_png(locate(folder / f"{i:03d}.png"), compose(scenes.reference(_FIRST_DRAWN + i, 320, 480), parts, rng))
        rows.append({"image": f"{i:03d}.png", "mos": round(100 * quality_of_composition(parts), 3)})
    return write_set(folder, rows, {"score_min": 0.0, "score_max": 100.0})


def take_photos(file: str, folder: Path) -> Path:
    """240 images of a set, its own scores and scale."""
    labelled = load_target(load_config(file).target)
    order = sorted(range(len(labelled)), key=lambda i: seed_of("photos", Path(labelled.image_paths[i]).name))[:IMAGES]
    paths, references = labelled.image_paths, labelled.reference_ids
    rows = [{"image": paths[i], "mos": labelled.mos[i], "reference": references[i]} for i in sorted(order)]
    scale = labelled.score_range
    target = {"reference_column": "reference", "score_min": scale.mos_min, "score_max": scale.mos_max}
    return write_set(folder, rows, {**target, "higher_is_better": scale.higher_is_better})


def write_set(folder: Path, rows: list[dict[str, Any]], target: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({"target": {"path": str(folder / "labels.csv"), **target}}))
    return file


def orders(made: Sequence[Path], photos: Sequence[Path]) -> dict[str, list[Path]]:
    """From drawn to photographed, and the other way round with the kinds mixed."""
    kadid_like, drawn = made
    if not photos:
        return {"there": [kadid_like, drawn], "back": [drawn, kadid_like]}
    return {"A": [kadid_like, drawn, *photos], "B": [photos[0], kadid_like, photos[1], drawn]}


def stream(config: Config, shared: Path, name: str, sets: Sequence[Path], settings: dict[str, Any]) -> Stream:
    """One stream with an output of its own; its encoded sets are those of all streams, in `shared`."""
    output = Path(config.output) / name
    shared.mkdir(parents=True, exist_ok=True)
    (output / "continual").mkdir(parents=True, exist_ok=True)
    if not (output / "continual" / "sets").exists():
        (output / "continual" / "sets").symlink_to(shared.absolute())
    given = {**settings, "output": str(output), "continual.sets": [str(file) for file in sets]}
    return run_stream(with_settings(config, given), in_process)


def sharpness_table(config: Config, result: Stream, encoded: Path) -> pd.DataFrame:
    """SRCC of the last step's model with other sharpnesses of its gate; nothing is trained anew."""
    bundle = read_bundle(locate(result.bundles[-1]))
    gate = Gate.from_parameters(bundle.parameters)
    if gate is None:
        raise ValueError(f"{result.bundles[-1]} has no gate")
    adapting = dataclasses.replace(config, adapt=method_adaptation(config.adapt, "own_norms"))
    model = process_model(adapting, read_bundle(locate(str(config.continual.start))), torch.device("cpu"))
    rows = []
    for sharpness in SHARPNESSES:
        changed = {**bundle.parameters, **dataclasses.replace(gate, sharpness=sharpness).to_parameters()}
        row: dict[str, Any] = {"sharpness": sharpness}
        for name in result.sets:
            test = EncodedSet(locate(encoded / name)).test_part(model.dtype, model.device)
            row[name] = round(srcc(predict(model, changed, test)[0], test.quality_N), 3)
        rows.append(row)
    return pd.DataFrame(rows)


def report(name: str, method: str, settings: dict[str, Any], result: Stream, seconds: float) -> dict[str, Any]:
    print(f"\n## {name}, {method}, {settings}, {seconds:.0f} s\n{result.as_text()}", flush=True)
    measures = {k: round(v, 3) for k, v in dataclasses.asdict(result.metrics).items()}
    return {"order": name, "method": method, **settings, **measures, "seconds": round(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", nargs=2, default=[], metavar="FILE", help="configurations of two photographed sets")
    parser.add_argument("--start", required=True, help="bundle of pre-trained prompts")
    parser.add_argument(
        "--orders", nargs="+", metavar="NAME", help="only these orders: A, B; with --choose there, back"
    )
    parser.add_argument("--choose", action="store_true", help="compare settings on the sets that are made here")
    arguments = parser.parse_args()
    makers = {"kadid_like": make_kadid_like, "drawn": make_drawn}
    files = {name: arguments.out / f"{name}.yaml" for name in makers}
    made = [file if file.exists() else makers[name](arguments.out / name) for name, file in files.items()]
    photos = []
    for file in () if arguments.choose else arguments.photos:
        taken = arguments.out / Path(file).name
        photos.append(taken if taken.exists() else take_photos(file, taken.with_suffix("")))
    places = [f"output={arguments.out}/streams", f"continual.start={arguments.start}"]
    config = load_config(None, [*places, *QUICK])
    plain: tuple[tuple[str, dict[str, Any]], ...] = tuple((method, {}) for method in get_args(StreamMethod))
    torch.set_num_threads(1)
    rows = []
    streams = orders(made, photos)
    for name in arguments.orders or streams:
        sets = streams[name]
        for number, (method, settings) in enumerate(CHOICES if arguments.choose else plain):
            began = time.time()
            chosen = {"continual.method": method, **settings}
            place = f"choose-{name}-{number}" if arguments.choose else name
            result = stream(config, arguments.out / "encoded", place, sets, chosen)
            rows.append(report(name, method, settings, result, time.time() - began))
            if arguments.choose and method == "own_norms":
                print(sharpness_table(config, result, arguments.out / "encoded").to_string(index=False))
    print(f"\n{pd.DataFrame(rows).to_string(index=False)}")


if __name__ == "__main__":
    main()
