"""Models of one set on the test images of another, in one process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from grmp_core.evaluation.metrics import plcc, srcc
from grmp_core.inspection.leaks import leaked
from grmp_core.learning.few_shot import predict_quality
from grmp_core.model.bundle import LEARNED_FROM, Bundle, read_bundle
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.few_shot.encoded_target import EncodedTarget
from pipelines.few_shot.starting_model import compute_device, process_model
from pipelines.runtime.computing import prepare_to_compute


@dataclass(frozen=True, kw_only=True)
class CrossTest:
    """The inputs of a worker; everything can be sent to another process."""

    config: Config
    """Of the sweep that made the models."""
    start: Bundle
    score_range: ScoreRange
    """Of the tested set."""
    encoded: EncodedTarget
    """The tested set, with its own protocol."""
    bundles: Mapping[int, str]
    """URI of a model, by split seed."""
    known_hashes: Mapping[str, np.uint64]
    """Perceptual hash of every image of the set that was learned from, by its id."""


def test_models(test: CrossTest) -> list[dict[str, Any]]:
    """Test every model on the test part of its split seed. -> `cross_run.COLUMNS` without the names of the sets.
    NaN where no image is left.

    SRCC and PLCC are positive where the model agrees with the humans, also where a set's own scale falls with quality.
    """
    config, encoded = test.config, test.encoded
    prepare_to_compute(config.sweep.cpus_per_trial)
    model = process_model(config, test.start, compute_device(config.sweep.gpus_per_trial))
    rows = []
    for seed, uri in test.bundles.items():
        bundle = read_bundle(locate(uri))
        learned_from = list(bundle.provenance.get(LEARNED_FROM, ()))
        part = encoded.protocol.parts(seed).test
        clean = part[~_known(test, part, learned_from)]
        counts = {"images": len(clean), "left_out": len(part) - len(clean)}
        if len(clean) == 0:
            rows.append({"split_seed": seed, "srcc": math.nan, "plcc": math.nan, **counts})
            continue
        views = encoded.views(clean, model.dtype, model.device)
        parameters = {name: tensor.to(model.device) for name, tensor in bundle.parameters.items()}
        quality = predict_quality(model, parameters, views.score_tokens_NGTD).cpu().numpy()
        predicted, mos = np.asarray(test.score_range.to_mos(quality)), encoded.mos[clean]
        rows.append({"split_seed": seed, "srcc": srcc(predicted, mos), "plcc": plcc(predicted, mos), **counts})
    return rows


def _known(test: CrossTest, rows: np.ndarray, learned_from: list[str]) -> np.ndarray:
    """Bool: images of these rows that the model has learned from, or that are nearly the same as one of those."""
    same = np.isin(np.array(test.encoded.image_ids)[rows], learned_from)
    hashes = np.array([test.known_hashes[name] for name in learned_from if name in test.known_hashes], dtype=np.uint64)
    return same | leaked(test.encoded.perceptual_hashes[rows], hashes) if len(hashes) else same
