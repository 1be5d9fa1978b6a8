"""Shared fixtures: tiny CLIPs with random weights made on the spot, nothing is downloaded."""

from __future__ import annotations

import atexit
import copy
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import open_clip
import pytest
import torch

from grmp_core.model.backbone import Backbone, load_backbone
from grmp_core.model.bundle import write_bundle
from grmp_core.model.differentiable import unadapted
from grmp_core.model.settings import BackboneConfig
from grmp_core.storage import locate

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):  # the same examples for the same code: a red CI means a change, not luck
    hypothesis.settings.load_profile("ci")

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="grmp-cache-")  # also of commands that tests start
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
torch.set_num_threads(1)  # sums in one order on every machine; the cores go to the other processes

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 40, "heads": 4, "layers": 3},
}


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that starts Ray by a fixture has the mark, too: such tests run in a process of their own, since two Rays
    of one machine disturb each other."""
    for item in items:
        if {"ray_instance", "cluster", "two_nodes"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.ray)


@pytest.fixture(autouse=True)
def no_ray_unless_marked(request: pytest.FixtureRequest):
    """Ray starts by itself at many of its calls: a test that does so without the mark fails."""
    before = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    yield
    after = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    if after and not before and request.node.get_closest_marker("ray") is None:
        sys.modules["ray"].shutdown()
        pytest.fail("this test starts Ray: mark it with pytest.mark.ray")


def tiny_variant(**changes) -> dict:
    config = copy.deepcopy(TINY)
    for key, value in changes.items():
        if isinstance(value, dict):
            config[key] = {**config.get(key, {}), **value}
        else:
            config[key] = value
    return config


VARIANTS = {
    "tiny-quickgelu": TINY,
    "tiny-gelu": tiny_variant(quick_gelu=False),
    "tiny-avgpool": tiny_variant(vision_cfg={"pool_type": "avg", "no_ln_pre": True}),
    "tiny-layerscale": tiny_variant(vision_cfg={"ls_init_value": 0.1}, text_cfg={"ls_init_value": 0.1}),
    "tiny-customtext": tiny_variant(custom_text=True, text_cfg={"pool_type": "last", "no_causal_mask": True}),
    "tiny-coca-text": tiny_variant(custom_text=True, text_cfg={"embed_cls": True}),
    "tiny-qknorm": tiny_variant(vision_cfg={"qk_norm": True}, text_cfg={"qk_norm": True}),
    "tiny-timm": tiny_variant(
        custom_text=True,
        vision_cfg={
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
        },
    ),
    "tiny-resnet": tiny_variant(vision_cfg={"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}),
}


@pytest.fixture(scope="session")
def model_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Registers the tiny architectures with open_clip."""
    folder = tmp_path_factory.mktemp("model_configs")
    for name, config in VARIANTS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return folder


@pytest.fixture(scope="session")
def make_clip(model_configs: Path):
    """name -> a fresh open_clip model with seeded random weights of a scale at which all parts matter."""

    def make(name: str = "tiny-quickgelu", seed: int = 0) -> torch.nn.Module:
        torch.manual_seed(seed)
        clip = open_clip.create_model(name, load_weights=False).eval()
        with torch.no_grad():
            for parameter in clip.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            clip.logit_scale.fill_(3.0)
        return clip

    return make


@pytest.fixture(scope="session")
def checkpoints(make_clip, tmp_path_factory: pytest.TempPathFactory):
    """name, seed -> path of a weights file."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("checkpoints")

    def path_of(name: str = "tiny-quickgelu", seed: int = 0) -> str:
        path = folder / f"{name}-{seed}.safetensors"
        if not path.exists():
            state = make_clip(name, seed).state_dict()
            save_file({key: tensor.contiguous().clone() for key, tensor in state.items()}, path)
        return str(path)

    return path_of


@pytest.fixture(scope="session")
def make_backbone(checkpoints):
    """name, seed -> a fresh Backbone."""

    def make(name: str = "tiny-quickgelu", seed: int = 0) -> Backbone:
        return load_backbone(BackboneConfig(name=name, checkpoint=checkpoints(name, seed)))

    return make


@pytest.fixture(scope="session")
def unadapted_folder(make_backbone, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a bundle of the tiny backbone alone."""
    folder = tmp_path_factory.mktemp("unadapted") / "bundle"
    write_bundle(locate(folder), unadapted(make_backbone()))
    return str(folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real photos and scores; tests that want it skip where it is absent."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("GRMP_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}; set GRMP_SHARED_DATA")
    return folder.resolve()


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder with small inputs that once went wrong; tests that want it skip where it is absent."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "cases"
    folder = Path(os.environ.get("GRMP_SHARED_CASES", default))
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}; set GRMP_SHARED_CASES")
    return folder.resolve()


@pytest.fixture(scope="session")
def ray_instance():
    """The one Ray of the whole test run."""
    from pipelines.runtime.ray_session import ray_session

    with ray_session():
        yield
