"""One step of a stream: the model before and a new set become the model after it, by the method of the stream."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from grmp_core.confidence.domain import has_domain
from grmp_core.continual.centres import centres_of
from grmp_core.continual.gate import Gate, gate_features
from grmp_core.evaluation.metrics import Scores, evaluate, srcc
from grmp_core.identity import Identity
from grmp_core.learning.few_shot import AdaptResult, Validation, adapt, predict_quality, validate
from grmp_core.learning.labelled_views import LabelledViews, whole
from grmp_core.learning.losses import margins
from grmp_core.learning.settings import AdaptConfig
from grmp_core.model.bundle import LEARNED_FROM, Bundle, read_bundle, write_bundle
from grmp_core.model.ensemble import separated, with_member
from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.storage import Location, locate
from pipelines.configuration.continual import StreamMethod
from pipelines.configuration.schema import Config
from pipelines.few_shot.adapted_bundle import adapted_bundle
from pipelines.few_shot.starting_model import compute_device, process_model
from pipelines.results.stream_folder import Cell
from pipelines.results.sweep_folder import TrialFolder
from pipelines.results.trial import METRICS, TrialResult
from pipelines.runtime.computing import prepare_to_compute
from pipelines.streaming_sets.encoded_sets import EncodedSet, TestPart, joined_views

STREAM = "stream"
"""Key of a model's provenance: the sets it has learned from, in order, each with its name, data set, labels and the
digest of the model before it."""
VALIDATION = "validation.json"
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Step:
    """The inputs of a step; everything can be sent to another process."""

    config: Config
    """With the adaptation of the method, and the set as its target."""
    start: Bundle
    name: str
    folder_uri: str
    before_uri: str | None
    """Bundle of the step before; null for the first one."""
    set_uris: tuple[str, ...]
    """Encoded sets of the stream so far, this one last. Only joint training reads the others."""
    identity: Identity

    @property
    def folder(self) -> TrialFolder:
        return TrialFolder(locate(self.folder_uri))

    @property
    def sets(self) -> list[EncodedSet]:
        return [EncodedSet(locate(uri)) for uri in self.set_uris]

    def before(self) -> Bundle | None:
        return None if self.before_uri is None else read_bundle(locate(self.before_uri))


def method_adaptation(config: AdaptConfig, method: StreamMethod) -> AdaptConfig:
    """The adaptation as a method of a stream has it."""
    if method == "own_norms":
        trainable = dataclasses.replace(config.trainable, norms_only=True, lora_rank=0, calibration=True)
        return dataclasses.replace(config, trainable=trainable)
    return dataclasses.replace(config, loss="pairs") if method == "replay_free" else config


def learn(step: Step) -> None:
    """Write the step's folder. The validation is on disk before the last training begins, so that a run that was
    killed goes on there; all follows the seed alone."""
    began = time.perf_counter()
    config, before = step.config, step.before()
    prepare_to_compute(config.sweep.cpus_per_trial)
    device = compute_device(config.sweep.gpus_per_trial)
    base = _base(step, before)
    model = process_model(config, base, device)
    views = _views(step, model)
    begin = model.adaptable_parameters(base.parameters)
    if config.continual.method == "replay_free" and before is not None:
        views = dataclasses.replace(views, before_NV=_margins(model, begin, whole(views.train_tokens_NVTD)))
    step.folder.begin()
    validation = _kept_validation(step.folder.root / VALIDATION, step.identity)
    if validation is None:
        validation = validate(model, begin, views, config.adapt, config.seed)
        _keep_validation(step.folder.root / VALIDATION, step.identity, validation)
    result = adapt(model, begin, views, config.adapt, config.seed, validation=validation)
    cpu = {name: tensor.cpu() for name, tensor in result.parameters.items()}
    bundle = _bundle(step, base, before, dataclasses.replace(result, parameters=cpu), views)
    _finish(step, bundle, result, len(views), began)


def _base(step: Step, before: Bundle | None) -> Bundle:
    """The start of the adaptation: the prompts, or with all that the model before has learned."""
    if before is None or step.config.continual.method in ("own_norms", "joint"):
        return step.start
    return dataclasses.replace(step.start, parameters={**step.start.parameters, **before.parameters})


def _views(step: Step, model: QualityModel) -> LabelledViews:
    used = step.sets if step.config.continual.method == "joint" else step.sets[-1:]
    return joined_views([one.train_views(model.dtype, model.device) for one in used])


@torch.no_grad()
def _margins(model: QualityModel, parameters: Parameters, tokens_NVTD: Tensor) -> Tensor:
    """(N, V) `margins` of training views."""
    parts = [
        margins(model.predict(parameters, part, start_block=model.first_adapting_block).quality_logits_BK)
        for part in tokens_NVTD.flatten(0, 1).split(_AT_ONCE)
    ]
    return torch.cat(parts).view(tokens_NVTD.shape[:2])


def _bundle(step: Step, base: Bundle, before: Bundle | None, result: AdaptResult, views: LabelledViews) -> Bundle:
    """The model after the step; with own norms an ensemble of all sets' models and their gate."""
    config, own = step.config, step.sets[-1]
    facts = own.facts()
    earlier = before.provenance[STREAM] if before is not None else []
    told = {"set": step.name, "dataset": facts["dataset"], "labels": facts["identity"]["settings"]["target"]}
    told |= {"images": len(facts["train"]["image_id"]), "model_before": None if before is None else before.digest}
    learned = set(before.provenance[LEARNED_FROM]) if before is not None else set()
    about = {
        "method": config.continual.method,
        STREAM: [*earlier, told],
        LEARNED_FROM: sorted(learned | set(facts["train"]["image_id"])),
        "shots": len(views),
    }
    bundle = adapted_bundle(config, base, result, views, own.score_range, about)
    if config.continual.method != "own_norms":
        return bundle
    gate = _gate(config, step.start, None if before is None else before.parameters, views)
    parameters = with_member(None if before is None else before.parameters, bundle.parameters, gate)
    return dataclasses.replace(bundle, parameters=parameters, evidence=None)


def _gate(config: Config, start: Bundle, before: Parameters | None, views: LabelledViews) -> Gate:
    """The gate before, with the centres of the new set's images."""
    early_size = views.score_tokens_NGTD.shape[-1]
    features_NE = gate_features(views.statistics_NF, early_size).numpy()
    centres_KE = centres_of(features_NE, config.continual.centres, config.seed)
    known = None if before is None else Gate.from_parameters(before)
    if known is not None:
        return known.extended(centres_KE)
    return Gate(
        centres_KE=centres_KE,
        owner_K=torch.zeros(len(centres_KE), dtype=torch.long),
        sharpness=config.continual.sharpness,
        early_size=early_size,
        deep=has_domain(config.backbone.name, start.backbone_sha256),
    )


def _finish(step: Step, bundle: Bundle, result: AdaptResult, images: int, began: float) -> None:
    """Test the model on the set's own test part, and write the folder, its marker last."""
    folder, config = step.folder, step.config
    model = process_model(config, step.start, compute_device(config.sweep.gpus_per_trial))
    test = step.sets[-1].test_part(model.dtype, model.device)
    predicted_N, _ = predict(model, bundle.parameters, test)
    scale = step.sets[-1].score_range
    predicted_mos_N = np.asarray(scale.to_mos(predicted_N))
    scores: Scores = evaluate(predicted_mos_N, test.mos_N)
    outcome = TrialResult(
        **{name: getattr(scores, name) for name in (*METRICS, "logistic_converged")},
        val_srcc=float(result.val_srcc),
        epochs=result.epochs,
        seconds=time.perf_counter() - began,
        bundle=folder.bundle.uri,
    )
    tested = {name: getattr(outcome, name) for name in METRICS}
    write_bundle(folder.bundle, dataclasses.replace(bundle, metrics={**bundle.metrics, **tested}))
    folder.write_history(result)
    paths = step.sets[-1].facts()["test"]["image_path"]
    columns = {"image_path": paths, "mos": test.mos_N, "quality": predicted_N, "mos_scale_score": predicted_mos_N}
    folder.write_predictions(pd.DataFrame(columns))
    folder.finish(step.identity, {"trial": step.name, "shots": images, **dataclasses.asdict(outcome)})


def predict(model: QualityModel, parameters: Parameters, test: TestPart) -> tuple[np.ndarray, np.ndarray | None]:
    """(N,) quality of test images, float32, and with a gate the (N, M) weights of its members.

    model: with the prompts of the stream, as `process_model` gives it.
    """
    device = model.device
    members = [{name: tensor.to(device) for name, tensor in member.items()} for member in separated(parameters)]
    each = [predict_quality(model, member, test.score_tokens_NGTD) for member in members]
    gate = Gate.from_parameters(parameters)
    if gate is None:
        return each[0].cpu().numpy(), None
    weights_NM = gate.weights(test.statistics_NF)
    quality_N = (weights_NM * torch.stack(each, dim=1).cpu().double()).sum(dim=1).float()
    return quality_N.numpy(), weights_NM.numpy()


def measure(config: Config, start: Bundle, bundle_uri: str, set_uris: Sequence[str]) -> list[Cell]:
    """The model of a bundle on the test parts of several sets."""
    prepare_to_compute(config.sweep.cpus_per_trial)
    model = process_model(config, start, compute_device(config.sweep.gpus_per_trial))
    parameters = read_bundle(locate(bundle_uri)).parameters
    cells = []
    for uri in set_uris:
        test = EncodedSet(locate(uri)).test_part(model.dtype, model.device)
        predicted_N, weights_NM = predict(model, parameters, test)
        choice: tuple[float, ...] = ()
        if weights_NM is not None:
            counts_M = np.bincount(weights_NM.argmax(axis=1), minlength=weights_NM.shape[1])
            choice = tuple((counts_M / len(weights_NM)).tolist())
        cells.append(Cell(srcc=srcc(predicted_N, test.quality_N), images=len(predicted_N), choice=choice))
    return cells


# --- a validation on disk --------------------------------------------------------------------------------------------


def _keep_validation(file: Location, identity: Identity, validation: Validation) -> None:
    content = {**dataclasses.asdict(validation), "held_out_N": validation.held_out_N.tolist()}
    file.write_json({"identity": identity.record(), **content})


def _kept_validation(file: Location, identity: Identity) -> Validation | None:
    """Null where there is none of this step."""
    content: dict[str, Any] = file.read_json() if file.exists() else {}
    if not identity.matches(content.get("identity")):
        return None
    return Validation(
        content["epochs"],
        _number(content["val_srcc"]),
        tuple((epoch, _number(score)) for epoch, score in content["val_srcc_by_epoch"]),
        np.array([_number(quality) for quality in content["held_out_N"]]),
    )


def _number(value: float | None) -> float:
    """JSON has null for NaN."""
    return math.nan if value is None else value
