"""The torch module against the scorer of files, finite differences, and itself in another batch, process or form."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch

import grmp_core
from grmp_core.errors import InputError
from grmp_core.imaging.views import ViewConfig
from grmp_core.model.bundle import Bundle, write_bundle
from grmp_core.model.differentiable import ImageQuality
from grmp_core.model.prompts import PromptConfig
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.scorer import Scorer
from grmp_core.score_range import ScoreRange
from grmp_core.storage import locate
from tests.grmp_core.imaging import pictures

PROMPTS = PromptConfig(visual_tokens=2)


def bundle_of(make_backbone, name: str = "tiny-quickgelu", prompts: PromptConfig = PROMPTS, **views) -> Bundle:
    backbone = make_backbone(name)
    parameters = QualityModel(backbone, prompts).prompt_parameters()
    return Bundle(
        kind="model", backbone=backbone.config, backbone_sha256=backbone.weights_sha256, prompts=prompts,
        views=ViewConfig(**views), precision="fp32", parameters={n: 20 * t for n, t in parameters.items()},
        score_range=ScoreRange(mos_min=0, mos_max=100),
    )  # fmt: skip


@pytest.fixture(scope="module")
def module(make_backbone) -> ImageQuality:
    return ImageQuality(bundle_of(make_backbone), "test")


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def noise(count: int, height: int = 50, width: int = 60, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("mode", "shape", "close"),
    [("crops", (50, 60), 1e-5), ("crops", (20, 45), 0.02), ("resize", (90, 75), 0.02), ("official", (50, 60), 0.02)],
)
def test_the_quality_is_that_of_the_scorer(make_backbone, mode, shape, close):
    bundle = bundle_of(make_backbone, mode=mode)
    photos = [pictures.photo(*shape), np.ascontiguousarray(pictures.photo(*shape)[::-1, :, ::-1])]
    expected = [score.quality for score in Scorer(bundle, "test").score(photos)]
    assert abs(expected[0] - expected[1]) > 1e-3
    found = ImageQuality(bundle, "test")(batch(*photos))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=close)


def test_an_image_has_the_same_quality_alone_and_in_a_batch(module):
    images = noise(9)  # 81 views, in two forward passes
    alone = torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(module(images), alone, atol=1e-5, rtol=0)
    assert alone.std() > 1e-4


def test_gradients_are_the_finite_differences(module):
    images = noise(2).requires_grad_()
    loss = module.as_loss()(images)
    (gradient,) = torch.autograd.grad(loss, images)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert not any(parameter.requires_grad for parameter in module.parameters())
    step = 0.02 * gradient / gradient.norm()
    with torch.no_grad():
        difference = module.as_loss()(images + step) - module.as_loss()(images - step)
    assert float(difference) == pytest.approx(2 * float((gradient * step).sum()), rel=0.02)


def test_the_loss_is_one_minus_quality(module):
    images = noise(3)
    torch.testing.assert_close(module.as_loss("none")(images), 1 - module(images))
    torch.testing.assert_close(module.as_loss()(images), 1 - module(images).mean())
    with pytest.raises(InputError, match="use mean or none"):
        module.as_loss("sum")


def test_following_the_gradient_raises_the_quality(module):
    images = noise(1).requires_grad_()
    before = module(images).detach()
    optimizer = torch.optim.Adam([images], lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        module.as_loss()(images).backward()
        optimizer.step()
    assert module(images) > before


def test_it_compiles_without_a_break(make_backbone):
    module = ImageQuality(bundle_of(make_backbone, score_grid=1), "test")
    images = noise(2).requires_grad_()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(images), module(images), atol=1e-5, rtol=0)
    gradients = [torch.autograd.grad(m(images).sum(), images)[0] for m in (module, compiled)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_a_copy_and_a_saved_one_are_the_same(module):
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    for twin in (copy.deepcopy(module), torch.load(stream, weights_only=False)):
        torch.testing.assert_close(twin(noise(2)), module(noise(2)))


def test_it_moves_with_all_its_tensors(module):
    moved = copy.deepcopy(module).to("meta")
    assert {t.device.type for t in (*moved.parameters(), *moved.buffers())} == {"meta"}
    assert moved(noise(2).to("meta")).shape == (2,)


def test_it_stays_in_evaluation_mode(make_backbone):
    """A tower with batch norms: in training mode an image's quality would be its neighbours'."""
    bundle = bundle_of(make_backbone, "tiny-resnet", PromptConfig(visual_tokens=0))
    module = ImageQuality(bundle, "test")
    before = module(noise(2))
    outer = torch.nn.ModuleList([module]).train()
    assert not any(part.training for part in outer[0].modules())
    torch.testing.assert_close(module(noise(2)), before)


def test_it_is_loaded_from_its_folder(make_backbone, tmp_path):
    bundle = bundle_of(make_backbone)
    write_bundle(locate(tmp_path / "bundle"), bundle)
    loaded = grmp_core.load(tmp_path / "bundle")
    torch.testing.assert_close(loaded(noise(2)), ImageQuality(bundle, "test")(noise(2)))
    assert loaded.score_range == bundle.score_range
    with pytest.raises(InputError, match="no bundle at"):
        grmp_core.load(tmp_path)


def test_without_a_folder_it_is_the_embedded_backbone():
    module = grmp_core.load()
    photo = pictures.photo(224, 230)
    coarse = grmp_core.distort(photo, "jpeg", level=5)
    images = batch(photo, coarse).requires_grad_()
    quality = module(images)
    assert quality[0] > quality[1]
    (gradient,) = torch.autograd.grad(quality.sum(), images)
    assert torch.isfinite(gradient).all()


@pytest.mark.slow
def test_the_embedded_backbone_compiles_without_a_break():
    module, images = grmp_core.load(), noise(1, 224, 224).requires_grad_()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(images), module(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 40, 40, dtype=torch.uint8), torch.zeros(3, 40, 40), torch.zeros(1, 40, 40, 3)]
)
def test_other_shapes_and_types_are_refused_with_the_way_out(module, images):
    with pytest.raises(InputError, match=r"permute\(0, 3, 1, 2\) / 255"):
        module(images)


@pytest.mark.parametrize("value", [128.0, -3.0, float("nan")])
def test_values_of_another_scale_are_refused(module, value):
    images = noise(2)
    images[1, 0, 3, 3] = value
    with pytest.raises(InputError, match=r"must be in \[0, 1\]"):
        module(images)


def test_values_that_an_optimizer_took_a_little_out_of_range_are_taken(module):
    assert module(1.2 * noise(1) - 0.1).isfinite().all()


def test_a_model_of_a_registry_is_loaded_elsewhere():
    with pytest.raises(InputError, match=r"pipelines\.load_model"):
        grmp_core.load("models:/grmp-iqa@champion")
