"""Models of one sweep as one, weighed by their errors on the labelled images that they have not learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from grmp_core.datasets.labelled_set import LabelledSet
from grmp_core.errors import InputError
from grmp_core.evaluation.stacking import stacking_weights
from grmp_core.imaging.decoding import id_of_file
from grmp_core.model.bundle import LEARNED_FROM, Bundle
from grmp_core.model.ensemble import joined
from pipelines.configuration.schema import Config
from pipelines.scoring.batch_scorer import score_paths


def stacked_model(
    config: Config, members: Mapping[str, Bundle], target: LabelledSet
) -> tuple[Bundle, dict[str, float]]:
    """The ensemble, and the weight of every member by name; members of weight 0 are left out of it.

    Labels of images that no member has learned from take no part. An image that cannot be read costs its row only.

    Raises:
        InputError: fewer than two members, members of different kinds, or one that does not say what it has learned
            from or has learned from all.
    """
    if len(members) < 2:
        raise InputError(f"an ensemble needs two models or more, and there are {len(members)}; give more split seeds")
    first = next(iter(members.values()))
    for name, member in members.items():
        if LEARNED_FROM not in member.provenance:
            raise InputError(f"{name} does not say what it has learned from; adapt it again")
        if _kind(member) != _kind(first):
            raise InputError(f"{name} differs from the other members in backbone, prompts, head, views or scale")
    seen = [set(member.provenance[LEARNED_FROM]) for member in members.values()]
    everything = set().union(*seen)
    rows = {row: image for row, path in enumerate(target.image_paths) if (image := id_of_file(path)) in everything}
    predicted_NM = np.full((len(rows), len(members)), np.nan)
    for m, (name, member) in enumerate(members.items()):
        new = np.array([image not in seen[m] for image in rows.values()])
        paths = [target.image_paths[row] for row, is_new in zip(rows, new, strict=True) if is_new]
        predicted_NM[new, m] = score_paths(config, member, name, paths)["quality"].to_numpy(float) if paths else []
    weights_M = stacking_weights(predicted_NM, target.quality[list(rows)])
    weights = dict(zip(members, weights_M.tolist(), strict=True))
    kept = [(member, weights[name]) for name, member in members.items() if weights[name] > 0]
    provenance = {
        **{key: value for key, value in first.provenance.items() if key not in ("trial", "split_seed")},
        LEARNED_FROM: sorted(everything),
        "ensemble": {name: round(weight, 6) for name, weight in weights.items() if weight > 0},
    }
    parameters = joined([member.parameters for member, _ in kept], [weight for _, weight in kept])
    joint = dataclasses.replace(first, parameters=parameters, metrics={}, provenance=provenance, evidence=None)
    return joint, weights


def _kind(bundle: Bundle) -> Bundle:
    """All that members have in common."""
    return dataclasses.replace(bundle, parameters={}, metrics={}, provenance={}, evidence=None)
