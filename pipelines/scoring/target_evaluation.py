"""How well a model agrees with human scores on a labelled set."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import MIN_INTERVAL_IMAGES, Scores, bootstrap_interval, evaluate, srcc
from grmp_core.imaging.decoding import id_of_file
from grmp_core.inspection.leaks import training_hashes
from grmp_core.model.bundle import LEARNED_FROM, Bundle
from pipelines.configuration.schema import Config
from pipelines.few_shot.file_survey import survey
from pipelines.few_shot.labelled_target import bad_rows, check_leaks, check_rejects, load_target
from pipelines.runtime.console import say, table
from pipelines.runtime.provenance import output_folder, write_manifest
from pipelines.scoring.batch_scorer import score_paths
from pipelines.scoring.model_lookup import open_model


@dataclass(frozen=True)
class Evaluation:
    """Result of `grmp evaluate`."""

    model: str
    scores: Scores
    srcc_low: float
    srcc_high: float
    """95 % bootstrap interval of the SRCC over images; NaN where there is none."""
    learned_from: int | None
    """Images of the set whose scores the model has seen; they are left out. Null where the model does not say."""

    def as_json(self) -> dict[str, Any]:
        interval = [self.srcc_low, self.srcc_high]
        scores = dataclasses.asdict(self.scores)
        return {"model": self.model, **scores, "srcc_interval": interval, "learned_from": self.learned_from}

    def as_text(self) -> str:
        interval = f"{self.srcc_low:.3f}-{self.srcc_high:.3f}"
        if not math.isfinite(self.srcc_low):
            few = self.scores.n < MIN_INTERVAL_IMAGES
            interval = f"none: {f'fewer than {MIN_INTERVAL_IMAGES} images' if few else 'SRCC is not defined'}"
        row = dataclasses.asdict(self.scores) | {"SRCC 95 %": interval}
        note = f"left out: {self.learned_from} images that the model has learned from" if self.learned_from else None
        if self.learned_from is None:
            note = "the model does not say what it has learned from: some of these images may be among it"
        return "\n".join(filter(None, [table([row]), note, self.model]))


def evaluate_target(config: Config) -> Evaluation:
    """Score with `score.model` the images of the target that it has not learned from; write `<output>/evaluate`.

    InputError when the model has learned from all of them, or none can be scored.
    """
    started = time.time()
    model, bundle = open_model(config)
    target = load_target(config.target)
    seen = rows_learned_from(bundle, model, target)
    _refuse_leaks(config, bundle, target, seen)
    frame = score_paths(config, bundle, model, np.array(target.image_paths)[~seen].tolist())
    frame["mos"] = target.mos[~seen]
    failed = frame[frame["error"].notna()]
    unreadable = tuple({"path": row.image_path, "reason": row.error} for row in failed.itertuples())
    if seen.any() and len(failed) == len(frame):
        raise InputError(
            f"the model {model} has learned from all {int(seen.sum())} images of {target.root} that can be read; "
            "evaluate it on others, or evaluate one of a sweep, which holds images back"
        )
    check_rejects(config.target, len(target), unreadable, bad_rows(target))
    if len(failed) == len(frame):
        first = unreadable[0]
        raise InputError(
            f"no image of {target.root} has a score (first: {first['path']}: {first['reason']}); repair them"
        )
    good = frame[frame["error"].isna()]
    predicted = np.asarray(target.score_range.to_mos(good["quality"].to_numpy()))  # on the target's scale, whatever
    human = good["mos"].to_numpy()  # scale the model learned from
    scores = evaluate(predicted, human)
    low, high = bootstrap_interval(srcc, predicted, human, seed=config.seed)
    output = output_folder(config, "evaluate")
    knows = bundle.kind == "prompts" or LEARNED_FROM in bundle.provenance  # prompts were adapted to nothing
    learned_from = int(seen.sum()) if knows else None
    result = Evaluation(model, scores, low, high, learned_from)
    (output / "evaluation.json").write_json(result.as_json())
    write_manifest(
        output,
        "evaluate",
        config,
        started,
        inputs={"target": target.fingerprint(), "model": model},
        counts={"images": len(good), "learned_from": learned_from},
        rejected=(*bad_rows(target), *unreadable),
    )
    say(f"evaluate: {len(good)} images of {config.target.dataset}")
    return result


def _refuse_leaks(config: Config, bundle: Bundle, target: LabelledSet, seen: np.ndarray) -> None:
    """InputError where the model's backbone was trained on images that are to be evaluated on."""
    if training_hashes(bundle.backbone.name, bundle.backbone.checkpoint) is None:
        return
    facts = survey("evaluate: leaks", target.image_paths, config.images)
    hashes, readable = facts["perceptual_hash"].to_numpy(np.uint64), facts["error"].eq("").to_numpy()
    check_leaks(config.target, bundle.backbone, target.image_paths, hashes, readable & ~seen)


def rows_learned_from(bundle: Bundle, where: str, target: LabelledSet) -> np.ndarray:
    """(N,) bool: the images whose scores adapted the model. InputError when pre-training has seen all of them."""
    if target.name in bundle.sources:
        raise InputError(
            f"the prompts of {where} were pre-trained on the scores of {target.name}, so no image of it is new to the "
            "model; evaluate it on another target.dataset"
        )
    seen = set(bundle.provenance.get(LEARNED_FROM, ()))
    return np.array([bool(seen) and id_of_file(path) in seen for path in target.image_paths])
