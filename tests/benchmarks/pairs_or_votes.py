"""500 pairs against 500 single votes: the SRCC of the model that is adapted to each.

    python -m tests.benchmarks.pairs_or_votes --config livec.yaml [--photos 100] [--answers 500] [--draws 5]

The configuration is of an ablation on LIVE In the Wild: it names the data and, under `ablate.pretrained`, the prompts.
A draw takes 100 photos of a split's training part. Raters are drawn by the set's own scores and standard deviations:
a vote is normal around the score, clipped to the scale, and five raters give one for each photo; of two photos a is
chosen with the probability Φ((score a - score b) / √(deviation a² + deviation b²)) (Thurstone), and the pairs are the
first 500 that the rating page asks of one rater. Both are written as a vote log, read as `target.path`, and adapted to
as a sweep does. The SRCC is that on the test photos of the split, with the set's own scores.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm

from grmp_core.datasets.matlab import read_variable
from grmp_core.evaluation.metrics import srcc
from grmp_core.learning.few_shot import adapt, predict_quality
from grmp_core.model.bundle import Bundle
from grmp_core.model.quality_model import Parameters
from grmp_core.ratings.vote_log import BEST_GRADE, WORST_GRADE, Vote, VoteLog, now
from grmp_core.storage import locate
from pipelines.ablation.arms import pretrained_of
from pipelines.configuration.labels import TargetConfig
from pipelines.configuration.loading import load_config
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import EncodedTarget, encode_target
from pipelines.few_shot.labelled_target import load_target
from pipelines.few_shot.starting_model import adapting_model, read_prompts
from pipelines.few_shot.target_protocol import target_protocol
from pipelines.labelling.image_pool import key_of
from pipelines.labelling.questions import pair_candidates
from pipelines.runtime.console import table

HIGHEST = 100
"""Of LIVE In the Wild's scale, which begins with 0."""


def deviations_of(root: str) -> dict[str, float]:
    """Name without ending -> standard deviation of the votes for a photo, on the scale of LIVE In the Wild."""
    data = locate(root) / "Data"
    names = read_variable(data / "AllImages_release.mat", "AllImages_release")
    values = read_variable(data / "AllStdDev_release.mat", "AllStdDev_release")
    return {os.path.splitext(str(name))[0]: float(value) for name, value in zip(names, values, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The photos that are rated."""

    names: list[str]
    scores_P: np.ndarray
    deviations_P: np.ndarray

    def votes(self, answers: int, rng: np.random.Generator) -> list[Vote]:
        """As many of each photo, each by another rater."""
        step = (BEST_GRADE - WORST_GRADE) / HIGHEST
        found = []
        for rater in range(answers // len(self.names)):
            drawn_P = np.clip(rng.normal(self.scores_P, self.deviations_P), 0, HIGHEST) * step + WORST_GRADE
            found += [_vote(f"rater {rater}", (name,), v) for name, v in zip(self.names, drawn_P, strict=True)]
        return found

    def pairs(self, answers: int, rng: np.random.Generator) -> list[Vote]:
        """Pairs as the page asks for them, by one rater."""
        number = {key_of(name): i for i, name in enumerate(self.names)}
        found = []
        for keys in islice(pair_candidates([], sorted(number), len(number)), answers):
            left, right = (number[key] for key in keys)
            spread = np.hypot(self.deviations_P[left], self.deviations_P[right])
            is_left = rng.random() < norm.cdf((self.scores_P[left] - self.scores_P[right]) / spread)
            found.append(_vote("rater", (self.names[left], self.names[right]), "left" if is_left else "right"))
        return found


def _vote(rater: str, images: tuple[str, ...], value: float | str) -> Vote:
    return Vote(
        id="\0".join([rater, *images]),
        rater=rater,
        time=now(),
        kind="grade" if len(images) == 1 else "pair",
        images=images,
        image_ids=(None,) * len(images),
        value=value,
    )


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The data and settings that all draws share."""

    config: Config
    start: Bundle
    encoded: EncodedTarget
    folder: str
    """Of the photos."""

    def labelled(self, votes: list[Vote]) -> EncodedTarget:
        """The target with the labels and weights that follow from a vote log, and no others."""
        with tempfile.TemporaryDirectory() as place:
            log = VoteLog(os.path.join(place, "votes.jsonl"))
            log.append(votes)
            log.close()
            labels = load_target(TargetConfig(path=log.path, image_folder=self.folder))
        row_of = {path: row for row, path in enumerate(self.encoded.image_path)}
        rows = np.array([row_of[path] for path in labels.image_paths])
        quality, weights = np.full(len(row_of), np.nan), np.ones(len(row_of))
        quality[rows] = labels.quality
        if labels.weights is not None:
            weights[rows] = labels.weights
        return dataclasses.replace(self.encoded, quality=quality, weights=None if labels.weights is None else weights)

    def test_srcc(self, labelled: EncodedTarget | None, rows: np.ndarray, test: np.ndarray, seed: int) -> float:
        """Of the model adapted to `rows`; of the prompts alone without labels."""
        model = adapting_model(self.config, self.start, torch.device("cpu"))
        parameters: Parameters = model.adaptable_parameters(self.start.parameters)
        if labelled is not None:
            views = labelled.views(rows, model.dtype, model.device)
            parameters = adapt(model, parameters, views, self.config.adapt, seed).parameters
        views = self.encoded.views(test, model.dtype, model.device)
        return srcc(predict_quality(model, parameters, views.score_tokens_NGTD).numpy(), self.encoded.mos[test])


def measure(learner: Learner, deviations: dict[str, float], photos: int, answers: int, seed: int) -> dict[str, float]:
    encoded = learner.encoded
    split = encoded.protocol.parts(seed)
    rows = encoded.protocol.labelled(split, photos)
    names = [os.path.relpath(encoded.image_path[row], learner.folder) for row in rows]
    rated = Photos(
        names=names,
        scores_P=encoded.mos[rows],
        deviations_P=np.array([deviations[Path(name).stem] for name in names]),
    )
    found = {"no label": learner.test_srcc(None, rows, split.test, seed)}
    for name, votes in (("single votes", rated.votes), ("pairs", rated.pairs)):
        labelled = learner.labelled(votes(answers, np.random.default_rng([seed, answers])))
        found[f"labels, {name}"] = srcc(labelled.quality[rows], encoded.mos[rows])
        found[name] = learner.test_srcc(labelled, rows, split.test, seed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pairs_or_votes")
    parser.add_argument("--config", required=True, metavar="FILE", help="of an ablation on LIVE In the Wild")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--answers", type=int, default=500)
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(options.config, [])
    start = read_prompts(config, locate(next(iter(pretrained_of(config).values()))))
    target = load_target(config.target)
    encoded = encode_target(config, target, start, target_protocol(config, target), here=True)
    learner = Learner(config=config, start=start, encoded=encoded, folder=os.path.dirname(encoded.image_path[0]))
    deviations, rows = deviations_of(target.root), []
    for seed in range(options.draws):
        began = time.process_time()
        rows.append(measure(learner, deviations, options.photos, options.answers, seed))
        found = ", ".join(f"{key} {value:.3f}" for key, value in rows[-1].items())
        print(f"draw {seed}: {found}; {time.process_time() - began:.0f} CPU s", flush=True)
    mean = {"draw": "mean", **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]}}
    print(table([*({"draw": seed, **row} for seed, row in enumerate(rows)), mean]))


if __name__ == "__main__":
    main()
