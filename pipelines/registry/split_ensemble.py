"""`register.ensemble: splits`: the models of all splits of a sweep's chosen lambda and budget as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from grmp_core.errors import InputError
from grmp_core.evaluation.metrics import evaluate
from grmp_core.imaging.decoding import id_of_file
from grmp_core.model.bundle import LEARNED_FROM, Bundle, read_bundle, with_weights_at, write_bundle
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location
from pipelines.configuration.schema import Config
from pipelines.few_shot.labelled_target import load_target
from pipelines.results.sweep_folder import SweepFolder
from pipelines.results.trial import METRICS
from pipelines.runtime.console import say
from pipelines.scoring.batch_scorer import score_paths
from pipelines.scoring.stacked_models import stacked_model

_MEMBERS = "members"


def ensemble_of_splits(config: Config) -> Location:
    """Make the ensemble's bundle in `<output>/sweep/ensemble`, unless these very members have made it already.

    Beside it lie its predictions for the test images of any split that no member has learned from: what a champion is
    compared on. Where there is no such image there is no file of predictions.

    InputError where there is no choice or only one split, or as of `stacked_model`.
    """
    sweep = SweepFolder.of(config.output).read()
    if sweep.chosen is None:
        raise InputError(f"no ensemble: the sweep at {sweep.folder.uri} has chosen no model; run grmp sweep")
    trials = sweep.finished.set_index("trial")
    chosen = trials.loc[sweep.chosen.trial]
    alike = trials[(trials["lambda"] == chosen["lambda"]) & (trials["budget"] == chosen["budget"])]
    members = {}
    for name in alike.index:
        place = sweep.folder.trial(name).bundle
        members[str(name)] = with_weights_at(read_bundle(place), config.backbone, place.uri)
    digests = {name: member.digest for name, member in members.items()}
    folder = sweep.folder.ensemble
    if folder.bundle.list() and read_bundle(folder.bundle).provenance.get(_MEMBERS) == digests:
        return folder.bundle
    bundle, weights = stacked_model(config, members, load_target(config.target))
    say("register: ensemble of " + ", ".join(f"{name} ({weight:.2f})" for name, weight in weights.items()))
    bundle = dataclasses.replace(bundle, provenance={**bundle.provenance, _MEMBERS: digests})
    tables = {name: sweep.folder.trial(name).read_predictions() for name in members}
    held_out = _held_out(config, bundle, {name: table for name, table in tables.items() if table is not None})
    if folder.predictions.exists():  # of other members
        folder.predictions.delete()
    if len(held_out):
        scores = evaluate(held_out["mos_scale_score"].to_numpy(), held_out["mos"].to_numpy())
        bundle = dataclasses.replace(bundle, metrics={name: getattr(scores, name) for name in METRICS})
        folder.write_predictions(held_out)
    write_bundle(folder.bundle, bundle)
    return folder.bundle


def _held_out(config: Config, bundle: Bundle, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`tables.PREDICTIONS` of the ensemble for test images that are new to all members."""
    seen = set(bundle.provenance[LEARNED_FROM])
    mos = {path: score for table in tables.values() for path, score in table[["image_path", "mos"]].to_numpy()}
    paths = [path for path in mos if id_of_file(path) not in seen]
    scored = score_paths(config, bundle, "the ensemble", paths)
    scored = scored[scored["error"].isna()]
    quality = scored["quality"].to_numpy(float)
    scale = bundle.score_range or ScoreRange(mos_min=0.0, mos_max=1.0)
    human = np.array([mos[path] for path in scored["image_path"]], dtype=float)
    columns = {"image_path": scored["image_path"], "mos": human, "quality": quality}
    return pd.DataFrame({**columns, "mos_scale_score": np.asarray(scale.to_mos(quality), dtype=float)})
