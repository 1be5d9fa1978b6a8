"""Presets: the settings that belong to a backbone follow its name, and everything that is given wins over them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from grmp_core.model.settings import TrainableConfig
from grmp_core.settings import field_types
from pipelines.configuration.backbone_presets import presets
from pipelines.configuration.field_help import settings_help
from pipelines.configuration.loading import as_dict, load_config
from pipelines.configuration.schema import Config

SHIPPED = str(Path(__file__).resolve().parents[3] / "ray_config.yaml")


def test_the_names_of_the_schema_are_the_files():
    assert get_args(field_types(Config)["preset"]) == ("auto", "none", *presets())


def test_the_embedded_backbone_has_its_measured_values():
    config = load_config(SHIPPED)
    assert config.preset == "grmp-nano"
    assert (config.meta.outer_steps, config.meta.inner_steps) == (20, 2)
    assert (config.meta.inner_lr, config.meta.outer_lr) == (2.5e-4, 0.25)
    assert (config.adapt.epochs, config.adapt.lr, config.adapt.loss) == (20, 0.05, "concordance")
    assert config.adapt.trainable == TrainableConfig(vision_blocks=2, text_blocks=0, calibration=True)
    assert (config.prompts.context_tokens, config.prompts.context_std) == (1, 0.0)
    assert (config.views.mode, config.views.train_views, config.views.score_grid) == ("crops", 4, 3)


@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu", "ViT-B-16", "ViT-B/16"])
def test_the_name_of_the_backbone_alone_changes_all_that_belongs_to_it(name):
    config = load_config(SHIPPED, [f"backbone.name={name}"])
    assert config.preset == "vit-b-16"
    assert (config.meta.inner_lr, config.adapt.lr, config.adapt.weight_decay) == (1e-4, 1e-3, 1e-4)
    assert config.meta.outer_lr >= 0.5, "with the published 0.01 pre-training would learn nothing (tasks start anew)"
    assert config.adapt.trainable == TrainableConfig()
    assert config.views.mode == "official"
    belongs = as_dict(load_config(None, ["preset=vit-b-16"]))
    assert {key: as_dict(config)[key] for key in ("prompts", "views")} == {
        key: belongs[key] for key in ("prompts", "views")
    }


def test_layers(tmp_path):
    """Defaults < preset < file < --set, setting by setting."""
    file = tmp_path / "c.yaml"
    file.write_text("adapt: {lr: 0.2, trainable: {text_blocks: 1}}\n")
    config = load_config(str(file), ["adapt.epochs=7"])
    assert config.adapt.batch_size == Config().adapt.batch_size
    assert (config.adapt.eval_every, config.adapt.lr, config.adapt.epochs) == (5, 0.2, 7)
    assert config.adapt.trainable == TrainableConfig(vision_blocks=2, text_blocks=1, calibration=True)


def test_a_preset_by_name_and_none():
    config = load_config(None, ["preset=vit-b-16"])
    assert (config.backbone.name, config.adapt.lr) == ("grmp-nano", 1e-3)
    plain = load_config(None, ["preset=none"])
    assert (plain.adapt, plain.meta, plain.views, plain.prompts) == (
        Config().adapt,
        Config().meta,
        Config().views,
        Config().prompts,
    )


def test_a_backbone_without_a_preset_is_said_once():
    said: list[str] = []
    config = load_config(None, ["backbone.name=ViT-L-14"], say=said.append)
    assert (config.preset, config.adapt) == ("none", Config().adapt)
    [line] = said
    assert line.startswith("configuration: the backbone ViT-L-14 has no preset")
    load_config(None, ["backbone.name=ViT-L-14", "preset=none"], say=said.append)
    assert len(said) == 1


def test_a_resolved_configuration_loads_as_it_is(tmp_path):
    config = load_config(SHIPPED, ["backbone.name=ViT-B-16", "adapt.epochs=4"])
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(as_dict(config)))
    assert load_config(str(tmp_path / "manifest.yaml")) == config


def test_help_tells_type_range_default_and_doc():
    text = " ".join(settings_help(["adapt", "sweep"]).split())
    assert "adapt.epochs: a whole number, 1 or more; default 20 (30) Passes over the labelled images" in text
    assert "sweep.ratios: a list, each entry a number, above 0 and at most 1; default [] Data ratios" in text
    assert "adapt.qgr.scope: one of tensor, global; default tensor Inner products" in text
    assert "backbone.checkpoint: text, or null; default null A local weights file" in text
    assert "output: text, at least one character; default runs/demo Folder or s3" in text
