"""What trials share and need, without Ray."""

import dataclasses
import math
import sys

import numpy as np
import pytest
import torch

from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import Bundle
from grmp_core.model.prompts import PromptConfig
from grmp_core.model.quality_model import QualityModel
from grmp_core.storage import locate
from pipelines.configuration.schema import Config
from pipelines.few_shot.starting_model import process_model
from pipelines.results import sweep_folder
from pipelines.sweeping import trial
from pipelines.sweeping.trial_pool import Runner

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="the system cannot forget a peak")
def test_the_peak_of_memory_forgets_what_was_held_before():
    held_bytes = 300 << 20
    held = np.ones(held_bytes, np.uint8)
    del held
    before = trial._peak_bytes()
    trial._forget_peak()
    forgotten = trial._peak_bytes()
    assert forgotten <= before - held_bytes / 2
    held = np.ones(held_bytes, np.uint8)
    del held
    assert trial._peak_bytes() >= forgotten + held_bytes / 2


def test_a_sweep_whose_images_come_and_go_is_refused(tmp_path):
    """Its finished trials were drawn from other images."""
    runner = Runner(Config(), None, None, locate(tmp_path), "identity")
    runner._keep_unreadable([{"path": "torn.png", "reason": "truncated"}])
    runner._keep_unreadable([{"path": "torn.png", "reason": "cannot be read"}])
    with pytest.raises(InputError, match=r"torn.png could not be read when this sweep began"):
        runner._keep_unreadable([])
    with pytest.raises(InputError, match=r"late.png could be read when this sweep began"):
        runner._keep_unreadable([{"path": p, "reason": ""} for p in ("torn.png", "late.png")])
    Runner(Config(), None, None, locate(tmp_path), "another")._keep_unreadable([])
    assert (locate(tmp_path) / "unreadable.json").read_json() == {"identity": "another", "unreadable": []}


def test_a_row_comes_back_with_nan_where_nothing_was_defined(tmp_path):
    place = locate(tmp_path)
    row = {
        "trial": "a",
        "prompts.context_init": None,
        "val_srcc": math.nan,
        "srcc": 0.5,
        "plcc": math.nan,
        "error": None,
    }
    sweep_folder.write_row(place, "identity", row)
    assert "NaN" not in (tmp_path / "trial.json").read_text()
    again = sweep_folder.finished_row(place, "identity")
    assert math.isnan(again["val_srcc"])
    assert math.isnan(again["plcc"])
    assert (again["srcc"], again["error"], again["prompts.context_init"]) == (0.5, None, None)
    assert sweep_folder.finished_row(place, "another") is None


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
