"""The pre-trained prompts and the model that an adaptation starts from."""

from __future__ import annotations

import torch

from grmp_core.errors import InputError
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import DESCRIPTION, Bundle, check_backbone, read_bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.storage import Location, locate
from pipelines.configuration.schema import Config

_models: dict[tuple[object, ...], QualityModel] = {}
"""The one model of this process."""


def check_adaptation(config: Config, start: Bundle) -> None:
    """InputError when the prompts belong to another backbone, or nothing would be learned: before workers start."""
    adapting_model(config, start, torch.device("cpu")).adaptable_parameters(start.parameters)


def adapting_model(config: Config, start: Bundle, device: torch.device) -> QualityModel:
    """The model that adapts, on `device`, from the backbone of `config`; it must be the one `start` was made with."""
    backbone = load_backbone(config.backbone)
    check_backbone(start, backbone, "of pre-training")
    model = QualityModel(
        backbone,
        start.prompts,
        precision=config.precision,
        seed=config.seed,
        trainable=config.adapt.trainable,
        head=config.adapt.head_config,
        compiler=config.compiler,
    )
    model.put(start.parameters)
    return model.to(device)


def process_model(config: Config, start: Bundle, device: torch.device) -> QualityModel:
    """`adapting_model`, made once a process: nothing that uses it changes it, and Ray uses processes again."""
    adapting = (config.adapt.trainable, config.adapt.head_config)
    key = (start.digest, config.backbone, config.precision, config.compiler, config.seed, adapting, device)
    if key not in _models:
        _models.clear()
        _models[key] = adapting_model(config, start, device)
    return _models[key]


def initial_prompts(config: Config) -> Bundle:
    """The pre-trained prompts `<output>/pretrain/bundle`. InputError as of `read_prompts`."""
    return read_prompts(config, locate(config.output) / "pretrain" / "bundle")


def read_prompts(config: Config, folder: Location) -> Bundle:
    """Pre-trained prompts. InputError where there are none, for an adapted model, and for prompts that know the
    target's scores."""
    if not (folder / DESCRIPTION).exists():
        raise InputError(f"no pre-trained prompts at {folder.uri}: run `grmp pretrain` with that output first")
    start = read_bundle(folder)
    if start.kind != "prompts":
        raise InputError(
            f"{folder.uri} is an adapted model: a trial that starts from it has seen scores that it is tested on; "
            "give the bundle of grmp pretrain"
        )
    if config.target.dataset in start.sources:
        raise InputError(
            f"the prompts at {folder.uri} were pre-trained on the scores of {config.target.dataset}, so no image of it "
            "is left to test on; choose another target.dataset, or another synthesize.source and output"
        )
    return start


def compute_device(gpus: float) -> torch.device:
    """The GPU that Ray assigned where one was asked for, else the CPU."""
    return torch.device("cuda" if gpus > 0 else "cpu")
