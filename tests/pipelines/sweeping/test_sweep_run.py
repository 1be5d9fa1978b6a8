"""Which sweep goes on, which takes another's place, and which is refused, without Ray."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from grmp_core.errors import InputError
from grmp_core.evaluation.protocol import Protocol
from grmp_core.evaluation.split_tables import SplitTable
from grmp_core.imaging.decoding import ImageLimits
from grmp_core.learning.settings import AdaptConfig, QgrConfig
from grmp_core.model.bundle import Bundle
from grmp_core.model.settings import BackboneConfig, PromptConfig
from pipelines.configuration.schema import Config
from pipelines.configuration.sweeping import SweepConfig
from pipelines.results.sweep_folder import SweepFolder
from pipelines.sweeping.grid import sweep_identity
from pipelines.sweeping.sweep_run import _check_begun

CONFIG = Config()
START = Bundle(
    kind="prompts", backbone=CONFIG.backbone, backbone_sha256="0" * 64, prompts=PromptConfig(), views=CONFIG.views,
    precision="fp32", parameters={},
)  # fmt: skip


DRAWN = Protocol(splits=SplitTable(reference_ids=("a", "b")), quality_N=np.array([0.2, 0.8]))


def identity_of(config: Config, start: Bundle = START, target: str = "feed", protocol: Protocol = DRAWN):
    return sweep_identity(config, start, target, protocol)


def adapting(**settings) -> Config:
    return dataclasses.replace(CONFIG, adapt=AdaptConfig(**settings))


def test_only_what_decides_about_a_trial_is_in_the_identity():
    record = identity_of(CONFIG).record()
    same = [
        adapting(qgr=QgrConfig(strength=1.0)),  # a trial has its own lambda
        dataclasses.replace(CONFIG, output="elsewhere"),
        dataclasses.replace(CONFIG, compile=True),  # other sums in their last bits
        dataclasses.replace(CONFIG, sweep=SweepConfig(lambdas=(9.0,), shots=(7,), split_seeds=(5,), cpus_per_trial=2)),
        dataclasses.replace(CONFIG, backbone=BackboneConfig(checkpoint="/moved/weights.safetensors")),
    ]
    assert all(identity_of(config).matches(record) for config in same)
    other = [
        adapting(lr=0.5),
        adapting(qgr=QgrConfig(scope="global")),
        dataclasses.replace(CONFIG, seed=1),
        dataclasses.replace(CONFIG, precision="bf16"),
        dataclasses.replace(CONFIG, sweep=SweepConfig(test_fraction=0.5)),
    ]
    assert not any(identity_of(config).matches(record) for config in other)
    assert not identity_of(CONFIG, target="f00d").matches(record)
    table = SplitTable(reference_ids=("a", "b"), given={"official": ("train", "test")})
    given = dataclasses.replace(DRAWN, splits=table)
    assert not identity_of(CONFIG, protocol=given).matches(record)
    assert not identity_of(CONFIG, dataclasses.replace(START, backbone_sha256="1" * 64)).matches(record)


def test_a_setting_that_is_added_with_a_default_keeps_a_sweep_s_identity():
    wider = dataclasses.make_dataclass(
        "AdaptConfig", [("momentum", float, 0.0)], bases=(AdaptConfig,), frozen=True, kw_only=True
    )
    before = identity_of(adapting(lr=0.5))
    now = identity_of(dataclasses.replace(CONFIG, adapt=wider(lr=0.5)))
    assert now.matches(before.record())
    assert now.digest == before.digest
    used = identity_of(dataclasses.replace(CONFIG, adapt=wider(lr=0.5, momentum=0.9)))
    assert used.changes_from(before.record()) == ["adapt.momentum was 0.0 and is 0.9"]


def test_a_sweep_from_before_colour_profiles_goes_on_without_them_only():
    without = dataclasses.replace(CONFIG, images=ImageLimits(colour_profiles=False))
    record = identity_of(without).record()
    assert not [name for name in record["settings"] if "colour" in name]
    assert identity_of(without).matches(record)
    assert identity_of(CONFIG).changes_from(record) == ['images.colours was not recorded and is "profiles applied"']
    assert not identity_of(without).matches(identity_of(CONFIG).record())


def test_what_differs_is_named_whether_a_sweep_may_be_replaced_or_not(tmp_path, capsys):
    folder = SweepFolder.of(str(tmp_path))
    resuming = dataclasses.replace(CONFIG, sweep=SweepConfig(resume=True))
    with pytest.raises(InputError, match=r"nothing to resume .* no sweep has begun there; run grmp sweep without"):
        _check_begun(resuming, folder, identity_of(resuming))
    assert folder.begun() is None, "a refused sweep has not begun"
    _check_begun(CONFIG, folder, identity_of(CONFIG))
    _check_begun(resuming, folder, identity_of(resuming))
    other = adapting(lr=0.02)
    with pytest.raises(InputError, match=r"is another one: adapt\.lr was 0\.001 and is 0\.02; run grmp sweep without"):
        _check_begun(dataclasses.replace(other, sweep=resuming.sweep), folder, identity_of(other))
    assert capsys.readouterr().err == ""
    _check_begun(other, folder, identity_of(other))
    assert "takes the place of the sweep at" in (said := capsys.readouterr().err)
    assert "adapt.lr was 0.001 and is 0.02" in said
    assert folder.begun() == identity_of(CONFIG).record(), "until nothing is left that could refuse the new one"
