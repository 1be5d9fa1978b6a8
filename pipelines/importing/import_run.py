"""`grmp import-official`: a checkpoint of the published code becomes a bundle.

What it has learned are its prompts and all tensors of CLIP that differ from the backbone's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.backbone import EMBEDDED, Backbone, BackboneConfig, load_backbone
from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.prompts import PromptConfig
from grmp_core.model.quality_model import Parameters, QualityModel
from pipelines.configuration.schema import Config
from pipelines.importing.published_keys import read_published
from pipelines.runtime.provenance import output_folder, versions, write_manifest

PUBLISHED_BACKBONE = "ViT-B-16-quickgelu"
_FIXED = ("clip.logit_scale", "clip.token_embedding.weight")
"""Tensors that the published code never moves; the model here has them from its backbone."""
_CLOSE = 1e-3
"""Relative; half precision, in which CLIP's weights are published, rounds by less."""


@dataclass(frozen=True)
class Imported:
    """Result of `grmp import-official`."""

    bundle: str
    kind: str
    prompt_tensors: int
    clip_tensors: int
    """Tensors of CLIP that fine-tuning has moved."""

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def as_text(self) -> str:
        kind = "pre-trained prompts" if self.kind == "prompts" else "a fine-tuned model"
        return (
            f"{kind}: {self.prompt_tensors} tensors of prompts, {self.clip_tensors} of CLIP that differ from the "
            f"backbone's\n{self.bundle}"
        )


def import_official(config: Config) -> Imported:
    """Write the bundle `<output>/imported/bundle` of `import_official.file`. InputError as of `read_published`, for a
    backbone that cannot be had, and for a checkpoint of other CLIP weights than the backbone's."""
    started = time.time()
    file = config.import_official.file
    if file is None:
        raise InputError("import_official.file: give the checkpoint, as in grmp import-official model.pt")
    tensors = read_published(file)
    backbone = load_backbone(_published_backbone(config.backbone))
    bundle = bundle_of(tensors, backbone, config.precision, file)
    folder = output_folder(config, "imported")
    write_bundle(folder / "bundle", bundle)
    moved = sum(name.startswith("clip.") for name in bundle.parameters)
    result = Imported((folder / "bundle").uri, bundle.kind, len(bundle.parameters) - moved, moved)
    inputs = {"file": file, "sha256": bundle.provenance["sha256"]}
    counts = {"prompt_tensors": result.prompt_tensors, "clip_tensors": moved}
    write_manifest(folder, "import_official", config, started, inputs=inputs, counts=counts)
    return result


def bundle_of(tensors: Parameters, backbone: Backbone, precision: str, file: str) -> Bundle:
    """The bundle of a checkpoint's tensors, under their names here. InputError where they do not fit the backbone."""
    learned = {name: tensor for name, tensor in tensors.items() if not name.startswith("clip.")}
    moved = _moved(tensors, backbone, file)
    prompts = PromptConfig(
        context_tokens=len(learned["text_prompt.context_MD"]),
        visual_tokens=learned["visual_prompt.tokens_LVD"].shape[1],
        prompt_norm="visual_prompt.norm.weight" in learned,
    )
    pretraining = {"source": ["kadid10k", "tid2013"]}  # the published prompts are learned from the scores of both
    bundle = Bundle(
        kind="model" if moved else "prompts",
        backbone=backbone.config.at_home(),
        backbone_sha256=backbone.weights_sha256,
        prompts=prompts,
        views=ViewConfig(mode="official", score_grid=1),
        precision=precision,
        parameters={**learned, **moved},
        provenance={
            "published_checkpoint": Path(file).name,
            "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest(),
            "versions": versions(),
            **({"pretraining": pretraining} if moved else pretraining),
        },
    )
    QualityModel(backbone, prompts).check_parameters(bundle.parameters)
    return bundle


def _published_backbone(config: BackboneConfig) -> BackboneConfig:
    """The configured one, or the published one where none is configured; with the published normalization."""
    if config.name == EMBEDDED:
        tag = None if config.checkpoint else "openai"
        config = dataclasses.replace(config, name=PUBLISHED_BACKBONE, pretrained=tag)
    return dataclasses.replace(config, normalization="imagenet")


def _moved(tensors: Mapping[str, Tensor], backbone: Backbone, file: str) -> Parameters:
    """The tensors of CLIP that differ from the backbone's."""
    theirs = {name: tensor for name, tensor in tensors.items() if name.startswith("clip.")}
    own = {f"clip.{name}": tensor for name, tensor in backbone.clip.state_dict().items()}
    missing = own.keys() - theirs.keys() - set(_FIXED)
    shapes = [name for name in theirs.keys() & own.keys() if theirs[name].shape != own[name].shape]
    wrong = sorted([*missing, *(theirs.keys() - own.keys()), *shapes])
    if wrong:
        raise InputError(
            f"checkpoint '{file}' is of another architecture than {backbone.config.name}: {len(wrong)} tensors are "
            f"missing on one side or have another shape, such as {wrong[0]}; set backbone.name to "
            "the one that it was made with"
        )
    for name in set(_FIXED) & theirs.keys():
        if not torch.allclose(theirs[name], own[name], rtol=_CLOSE, atol=_CLOSE * float(own[name].abs().mean())):
            raise InputError(
                f"checkpoint '{file}' was made from other CLIP weights than this backbone's: {name} differs, which no "
                "training moves; set backbone.pretrained or backbone.checkpoint to the weights that it was made with"
            )
    return {n: t for n, t in theirs.items() if n not in _FIXED and not torch.equal(t, own[n])}
