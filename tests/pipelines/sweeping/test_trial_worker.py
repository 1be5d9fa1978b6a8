"""Shared inputs and needs of trials, without Ray."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.identity import Identity
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import Bundle
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import PromptConfig
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.few_shot.starting_model import process_model
from pipelines.results.sweep_folder import SweepFolder
from pipelines.sweeping import trial_worker
from pipelines.sweeping.trial_pool import Runner

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="the system cannot forget a peak")
def test_the_peak_of_memory_forgets_what_was_held_before():
    held_bytes = 300 << 20
    held = np.ones(held_bytes, np.uint8)
    del held
    before = trial_worker._peak_bytes()
    trial_worker._forget_peak()
    forgotten = trial_worker._peak_bytes()
    assert forgotten <= before - held_bytes / 2
    held = np.ones(held_bytes, np.uint8)
    del held
    assert trial_worker._peak_bytes() >= forgotten + held_bytes / 2


def test_a_sweep_whose_images_come_and_go_is_refused(tmp_path):
    """Its finished trials were drawn from other images."""
    folder, one, other = SweepFolder(locate(tmp_path)), Identity.of({"seed": 1}), Identity.of({"seed": 2})
    runner = Runner(Config(), None, None, None, folder, one)
    runner._keep_unreadable([{"path": "torn.png", "reason": "truncated"}])
    runner._keep_unreadable([{"path": "torn.png", "reason": "cannot be read"}])
    with pytest.raises(InputError, match=r"torn.png could not be read when this sweep began"):
        runner._keep_unreadable([])
    with pytest.raises(InputError, match=r"late.png could be read when this sweep began"):
        runner._keep_unreadable([{"path": p, "reason": ""} for p in ("torn.png", "late.png")])
    Runner(Config(), None, None, None, folder, other)._keep_unreadable([])
    assert (folder.unreadable(other), folder.unreadable(one)) == ([], None)


def test_a_process_keeps_the_model_for_the_same_settings_only(make_backbone):
    backbone = make_backbone()
    prompts = PromptConfig(visual_tokens=2)
    parameters = QualityModel(backbone, prompts).prompt_parameters()
    start = Bundle(
        kind="prompts",
        backbone=backbone.config,
        backbone_sha256=backbone.weights_sha256,
        prompts=prompts,
        views=ViewConfig(),
        precision="fp32",
        parameters=parameters,
    )
    config = Config(backbone=backbone.config, prompts=prompts)
    model = process_model(config, start, CPU)
    assert process_model(dataclasses.replace(config, output="elsewhere"), start, CPU) is model
    moved = dataclasses.replace(start, parameters={name: tensor + 1 for name, tensor in parameters.items()})
    assert process_model(config, moved, CPU) is not model
    assert process_model(dataclasses.replace(config, precision="bf16"), start, CPU).dtype == torch.bfloat16
