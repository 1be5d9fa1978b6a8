"""Arms of an ablation by name: baselines, and adaptations that differ in start prompts, settings and lambda.

Adaptations with equal prompts and settings are one sweep, whatever their lambda.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from grmp_core.errors import InputError
from grmp_core.model.backbone import load_backbone
from grmp_core.model.bundle import Bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.storage import locate
from pipelines.ablation.pyiqa_metrics import PREFIX, check_metrics
from pipelines.configuration.loading import LAMBDA, as_dict, with_settings
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import ArmConfig
from pipelines.few_shot.starting_model import read_prompts
from pipelines.results.trial import folder_name
from pipelines.runtime.provenance import output_folder

WHOLE, RANDOM = "whole method", "random"
BASELINES = {
    "no label": ArmConfig(baseline="no label"),
    "LIQE prompts": ArmConfig(baseline="liqe prompts"),
    "BRISQUE ridge": ArmConfig(baseline="brisque"),
    "feature ridge": ArmConfig(baseline="features"),
    "residual ridge": ArmConfig(baseline="residual"),
    "kernel regression": ArmConfig(baseline="kernel"),
}
SCENE_RIDGE = "scene ridge"
COOP = ArmConfig(
    settings={
        "prompts.visual_tokens": 0,
        "adapt.trainable.text_context": True,
        "adapt.trainable.visual_prompts": False,
        "adapt.trainable.vision_blocks": 0,
        "adapt.trainable.text_blocks": 0,
        "adapt.trainable.final_norms": False,
    }
)
"""Text context only, no visual prompts (Zhou et al. 2022)."""
LORA_RANK = 4
BLOCKS = (0, 2, 4)
"""Image blocks that adapt in the arms of these names."""


@dataclass(frozen=True)
class SweepArms:
    """Adaptations that one sweep runs: equal prompts and settings."""

    folder: str
    config: Config
    start: Bundle
    methods: Mapping[str, bool]
    """Arm -> true with QGR (lambda > 0), false without (lambda 0)."""
    ensembles: frozenset[str] = frozenset()
    """Arms among them that are an ensemble of the models of all label draws of a fold."""


def standard_arms(config: Config) -> dict[str, ArmConfig]:
    """Baselines, CoOp, and adaptation with 0, 2 and 4 moving image blocks, each with and without QGR, from random and
    from every pre-trained prompts; the whole method is the configuration's own setting with QGR."""
    own_blocks = config.adapt.trainable.vision_blocks
    prograd = ArmConfig(settings={"adapt.qgr.rule": "conflict"}, regularized=True)
    adapting = dict.fromkeys(("adapt.trainable.vision_blocks", "adapt.trainable.text_blocks"), max(1, own_blocks))
    lora = ArmConfig(settings={**adapting, "adapt.trainable.lora_rank": LORA_RANK})
    covariates = {SCENE_RIDGE: ArmConfig(baseline="scenes")} if config.protocol.scenes is not None else {}
    arms = {**BASELINES, **covariates, "CoOp": COOP, "LoRA": lora, f"{own_blocks} blocks + ProGrad": prograd}
    starts = list(pretrained_of(config))
    for start in (RANDOM, *starts):
        for blocks in BLOCKS:
            name = f"{blocks} blocks" if start == RANDOM else f"{blocks} blocks + {start}"
            settings = {"adapt.trainable.vision_blocks": blocks}
            arms[name] = ArmConfig(start=start, settings=settings)
            arms[f"{name} + QGR"] = ArmConfig(start=start, settings=settings, regularized=True)
    return arms | {WHOLE: ArmConfig(start=starts[0], regularized=True)}


def optional_arms(config: Config) -> dict[str, ArmConfig]:
    """Options of the method that run only where `ablate.arms` names them: the whole method with each."""
    first, *others = pretrained_of(config)
    return {
        **{f"{WHOLE}, {start}": ArmConfig(start=start, regularized=True) for start in others},
        "attention panel": ArmConfig(start=first, regularized=True, settings={"adapt.head": "attention_panel"}),
        "denoise": ArmConfig(start=first, regularized=True, settings={"adapt.head": "denoise"}),
        "split ensemble": ArmConfig(start=first, regularized=True, ensemble=True),
    }


def chosen_arms(config: Config) -> dict[str, ArmConfig]:
    """The arms of `ablate.arms` in that order, or all but the optional ones.

    InputError for a name that no arm has, for QGR without a lambda above 0 to take, for an ensemble of one draw, and as
    of `check_metrics`.
    """
    usual = standard_arms(config) | config.ablate.define
    names = config.ablate.arms or tuple(usual)
    metrics = {name: ArmConfig(metric=name.removeprefix(PREFIX)) for name in names if name.startswith(PREFIX)}
    known = metrics | optional_arms(config) | usual
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"ablate.arms: there is no arm '{unknown[0]}'; arms are {', '.join(known)}")
    chosen = {name: known[name] for name in names}
    check_metrics(arm.metric for arm in chosen.values() if arm.metric is not None)
    if any(arm.regularized for arm in chosen.values()) and not any(value > 0 for value in config.sweep.lambdas):
        raise InputError("an ablation compares lambda 0 with larger ones: give sweep.lambdas a value above 0")
    for name, arm in chosen.items():
        if arm.baseline == "scenes" and config.protocol.scenes is None:
            raise InputError(f"the arm '{name}' needs the scene of every image: set protocol.scenes")
        if arm.ensemble and not _has_draws_to_join(config):
            raise InputError(
                f"the arm '{name}' joins the label draws of a fold: set protocol.folds, and sweep.split_seeds so that "
                "every fold has two or more"
            )
        if LAMBDA in arm.settings:
            raise InputError(f"ablate.define.{name}: lambda is not an arm's setting; use `regularized`, sweep.lambdas")
    if LAMBDA in config.sweep.space:
        raise InputError(f"an ablation compares lambda 0 with larger ones: remove {LAMBDA} from sweep.space")
    return chosen


def sweeps_of(config: Config, arms: Mapping[str, ArmConfig]) -> list[SweepArms]:
    """The sweeps that run the adaptations among `arms`.

    InputError where a bundle is missing or does not fit the backbone, or an arm names prompts that are not given.
    """
    methods: dict[tuple[str, str], dict[str, bool]] = {}
    settled: dict[tuple[str, str], Config] = {}
    ensembles = frozenset(name for name, arm in arms.items() if arm.ensemble)
    for name, arm in arms.items():
        if not arm.adapts:
            continue
        own = with_settings(config, arm.settings)
        key = (arm.start, _changes(config, own))
        settled[key] = own
        methods.setdefault(key, {})[name] = arm.regularized
    return [
        _sweep(start, changes, settled[start, changes], found, ensembles.intersection(found))
        for (start, changes), found in methods.items()
    ]


def random_prompts(config: Config) -> Bundle:
    """A bundle with the prompts that pre-training starts from, seeded by `config.seed`."""
    backbone = load_backbone(config.backbone)
    return Bundle(
        kind="prompts",
        backbone=config.backbone,
        backbone_sha256=backbone.weights_sha256,
        prompts=config.prompts,
        views=config.views,
        precision=config.precision,
        parameters=QualityModel(backbone, config.prompts, seed=config.seed).prompt_parameters(),
        colour_profiles=config.images.colour_profiles,
        provenance={"tasks": [], "seed": config.seed},
    )


def pretrained_of(config: Config) -> dict[str, str]:
    """Name -> bundle folder of the pre-trained prompts that are compared."""
    return dict(config.ablate.pretrained) or {"MPP": (output_folder(config, "pretrain") / "bundle").uri}


def _sweep(start: str, changes: str, config: Config, methods: dict[str, bool], ensembles: frozenset[str]) -> SweepArms:
    lambdas = [0.0] if not all(methods.values()) else []
    if any(methods.values()):
        lambdas += [value for value in config.sweep.lambdas if value > 0]
    own = with_settings(config, {"sweep.lambdas": lambdas})
    if start == RANDOM:
        prompts = random_prompts(own)
    elif start in pretrained_of(config):
        prompts = read_prompts(config, locate(pretrained_of(config)[start]))
    else:
        named = ", ".join([RANDOM, *pretrained_of(config)])
        raise InputError(f"an arm starts from the prompts '{start}', which ablate.pretrained lacks; there are {named}")
    folder = folder_name(re.sub(r"[^\w.=+-]+", "-", f"{start} {changes}").strip("-"))
    return SweepArms(folder, own, prompts, methods, ensembles)


def _has_draws_to_join(config: Config) -> bool:
    folds = config.protocol.folds
    return folds > 0 and min(Counter(seed % folds for seed in config.sweep.split_seeds).values()) > 1


def _changes(before: Config, after: Config) -> str:
    """The settings that differ, for the name of a folder: `adapt.trainable.vision_blocks=2`."""
    old, new = _flat(as_dict(before)), _flat(as_dict(after))
    return " ".join(f"{key}={value}" for key, value in new.items() if key not in old or old[key] != value)


def _flat(data: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for key, value in data.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return leaves
