"""A model on disk: `model.safetensors` (learned tensors only), `bundle.json` (all that is needed to use them), and
`evidence.safetensors` (what intervals and refusals follow from)."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from grmp_core.confidence.evidence import Evidence
from grmp_core.continual.gate import Gate
from grmp_core.errors import InputError
from grmp_core.identity import Identity, digest_of
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.ensemble import WEIGHTS, EnsemblePredictor, separated
from grmp_core.model.predictor import Predictor
from grmp_core.model.quality_model import Parameters, QualityModel
from grmp_core.model.settings import BackboneConfig, HeadConfig, PromptConfig
from grmp_core.score_range import ScoreRange
from grmp_core.storage import Location

FORMAT = "grmp-iqa bundle"
VERSION = 1
TENSORS = "model.safetensors"
DESCRIPTION = "bundle.json"
EVIDENCE = "evidence.safetensors"
LEARNED_FROM = "learned_from"
"""Key of a model's provenance: the `images.image_id` of every image whose human score adapted it."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Learned tensors with their description."""

    kind: Literal["prompts", "model"]
    """`prompts` from pre-training, `model` adapted to a target."""
    backbone: BackboneConfig
    backbone_sha256: str
    prompts: PromptConfig
    views: ViewConfig
    precision: str
    parameters: Parameters
    head: HeadConfig = field(default_factory=HeadConfig)
    """Plain in a bundle from before there were others."""
    colour_profiles: bool = False
    """Colour profiles were applied to the pictures that it was made from, and are to those that it scores. A bundle
    without that note is from before they were."""
    score_range: ScoreRange | None = None
    """Of the target's MOS; null for prompts."""
    metrics: dict[str, float] = field(default_factory=dict)
    """NaN where a measure is not defined; null in the file."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was made: lambda, shots, seeds, dataset fingerprint, versions."""
    evidence: Evidence | None = None
    """Held-out predictions and looks of the labelled images, in a file of its own; null for prompts, models from before
    it was kept, and models adapted with a single fold."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Data sets by name, or other material, that the prompts were pre-trained on."""
        pretraining = self.provenance if self.kind == "prompts" else self.provenance.get("pretraining", {})
        source = pretraining.get("source")
        return tuple(source) if isinstance(source, list) else () if source is None else (source,)

    @cached_property
    def digest(self) -> str:
        """SHA-256 as hex of what the model makes of a view: backbone weights, normalization, prompts, learned tensors.

        Settings at their defaults take no part, so that a bundle from before one was added keeps its digest: a change
        of such a default needs a new VERSION.
        """
        described = Identity.of(
            {"backbone_sha256": self.backbone_sha256, "backbone": self.backbone, "prompts": self.prompts}
            | {"head": self.head},
            without={"backbone.name", "backbone.pretrained", "backbone.checkpoint"},  # the hash stands for them
        )
        parts: list[object] = [VERSION, described.digest]
        for name, tensor in sorted(self.parameters.items()):
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            parts += [[name, str(tensor.dtype), list(tensor.shape)], raw.numpy().tobytes()]
        return digest_of(*parts)


def write_bundle(folder: Location, bundle: Bundle) -> None:
    """Write a bundle into the folder `folder`; the description last, so that a half-written bundle is none."""
    tensors = save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(bundle.parameters.items())})
    written = {"format": FORMAT, "version": VERSION, "tensors_sha256": hashlib.sha256(tensors).hexdigest()}
    if bundle.evidence is not None:
        evidence = bundle.evidence.to_bytes()
        written["evidence_sha256"] = hashlib.sha256(evidence).hexdigest()
        (folder / EVIDENCE).write_bytes(evidence)
    (folder / TENSORS).write_bytes(tensors)
    (folder / DESCRIPTION).write_json({**description_of(bundle), **written})


def description_of(bundle: Bundle) -> dict[str, Any]:
    """All of a bundle but its tensors, for JSON."""
    return {
        f.name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for f in dataclasses.fields(bundle)
        if f.name not in ("parameters", "evidence")
        for value in [getattr(bundle, f.name)]
    }


def bundle_of(description: Mapping[str, Any], parameters: Parameters) -> Bundle:
    """The inverse of `description_of`. KeyError and TypeError for a description that is none."""
    content = dict(description)
    return Bundle(
        kind=content["kind"],
        backbone=BackboneConfig(**content["backbone"]),
        backbone_sha256=content["backbone_sha256"],
        prompts=PromptConfig(**{**content["prompts"], "phrases": tuple(content["prompts"]["phrases"])}),
        views=ViewConfig(**content["views"]),
        precision=content["precision"],
        parameters=parameters,
        score_range=ScoreRange(**content["score_range"]) if content["score_range"] else None,
        metrics={name: math.nan if v is None else v for name, v in content["metrics"].items()},
        provenance=_without_places(content["provenance"]),
        colour_profiles=content.get("colour_profiles", False),
        head=HeadConfig(**content.get("head", {})),
    )


def teacher_name(name: str, identity: str) -> str:
    """The name of a teacher for others to read. A bundle that has no name but its place is called by its digest, with
    which its `identity` begins."""
    is_place = os.path.isabs(name) or "://" in name
    return f"bundle {identity[:12]}" if is_place else name


def _without_places(provenance: dict[str, Any]) -> dict[str, Any]:
    """The provenance of a bundle that is read: earlier students name their teacher by its place."""
    teacher = provenance.get("teacher")
    if teacher is None:
        return provenance
    return {**provenance, "teacher": {**teacher, "name": teacher_name(teacher["name"], teacher.get("identity", ""))}}


def read_bundle(folder: Location) -> Bundle:
    """Read and check a bundle. InputError, with the reason, for one that is missing, foreign, newer, or changed."""
    for name in (DESCRIPTION, TENSORS):
        if not (folder / name).exists():
            raise InputError(
                f"no bundle at {folder.uri}: {name} is missing; give the folder that grmp adapt or pretrain wrote"
            )
    content = (folder / DESCRIPTION).read_json()
    if content.get("format") != FORMAT:
        raise InputError(
            f"{(folder / DESCRIPTION).uri} does not describe a grmp-iqa bundle; it is another program's file"
        )
    if content.get("version") != VERSION:
        raise InputError(
            f"bundle {folder.uri} has format version {content.get('version')}, this program reads {VERSION}; "
            "use the release that wrote it"
        )
    tensors = (folder / TENSORS).read_bytes()
    if hashlib.sha256(tensors).hexdigest() != content.get("tensors_sha256"):
        raise InputError(f"bundle {folder.uri} was changed after it was written: {TENSORS} does not match its hash")
    try:
        parameters = dict(sorted(load(tensors).items()))  # as read, the order differs between processes
        evidence = _read_evidence(folder, content.get("evidence_sha256"))
        return dataclasses.replace(bundle_of(content, parameters), evidence=evidence)
    except (KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"bundle {folder.uri} is damaged ({type(error).__name__}: {error}); write it again") from error


def _read_evidence(folder: Location, expected: str | None) -> Evidence | None:
    """Null where the description names none."""
    if expected is None:
        return None
    file = folder / EVIDENCE
    data = file.read_bytes() if file.exists() else b""
    if hashlib.sha256(data).hexdigest() != expected:
        raise InputError(
            f"bundle {folder.uri} was changed after it was written: {EVIDENCE} is missing or does not match its hash"
        )
    return Evidence.from_bytes(data, file.uri)


def check_backbone(bundle: Bundle, backbone: Backbone, where: str) -> None:
    """InputError when `backbone` does not have the weights and the normalization the bundle was made with."""
    if bundle.backbone_sha256 != backbone.weights_sha256:
        raise InputError(
            f"bundle {where} was made with another backbone ({bundle.backbone.name}, weights "
            f"{bundle.backbone_sha256[:12]}) than {backbone.config.name} ({backbone.weights_sha256[:12]}); "
            "use the same name, tag or checkpoint"
        )
    if bundle.backbone.normalization != backbone.config.normalization:
        raise InputError(
            f"bundle {where} was made with backbone.normalization={bundle.backbone.normalization}, not "
            f"{backbone.config.normalization}; set it to that"
        )


def with_weights_at(bundle: Bundle, given: BackboneConfig, where: str) -> Bundle:
    """The bundle; where its weights file is no longer where it was made, with `given.checkpoint` in its place.

    InputError when that file holds other weights.
    """
    made_with = bundle.backbone.checkpoint
    if made_with is None or given.checkpoint is None or os.path.isfile(made_with):
        return bundle
    moved = dataclasses.replace(bundle.backbone, checkpoint=given.checkpoint).at_home()
    check_backbone(bundle, load_backbone(moved), where)
    return dataclasses.replace(bundle, backbone=moved)


def load_predictor(
    bundle: Bundle, where: str, backbone: Backbone | None = None, device: str = "cpu", *, deep: bool = False
) -> Predictor | EnsemblePredictor:
    """A ready model from a bundle; `deep` as of `Predictor`. InputError when the backbone cannot be had or differs."""
    backbone = backbone or load_backbone(bundle.backbone)
    check_backbone(bundle, backbone, where)
    members = separated(bundle.parameters)
    clips = [backbone.clip, *(copy.deepcopy(backbone.clip) for _ in members[1:])]  # a model takes its weights over
    gate = Gate.from_parameters(bundle.parameters)
    predictors = []
    for number, (clip, parameters) in enumerate(zip(clips, members, strict=True)):
        own = dataclasses.replace(backbone, clip=clip)
        model = QualityModel(own, bundle.prompts, precision=bundle.precision, head=bundle.head).to(device)
        gate_looks = number == 0 and gate is not None and gate.deep
        predictors.append(Predictor(model, parameters, deep=deep or gate_looks))
    if WEIGHTS not in bundle.parameters:
        return predictors[0]
    return EnsemblePredictor(predictors, bundle.parameters[WEIGHTS], gate)
