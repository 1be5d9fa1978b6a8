"""The stem against timm's EfficientNet-Lite0 and against autograd's own gradients."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from grmp_core.model import nano_stem as stem
from grmp_core.model.nano_stages import STAGES
from grmp_core.model.nano_stem import LiteTokens, SameConv, cell_moments, folded_state


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """timm's network with random weights and batch norms that do something."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def folded(network) -> LiteTokens:
    tokens = LiteTokens(224, 8)
    missing = tokens.load_state_dict(folded_state(network.state_dict()), strict=False).missing_keys
    assert {name.split(".")[0] for name in missing} == {"center_F", "scale_F", "proj"}
    return tokens


def first_map(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """timm's first convolution on images normalized for CLIP, with CLIP's mean colour beyond the border."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    pixels = F.pad(images, (0, 1, 0, 1)) * std + mean
    return network.bn1(F.conv2d((pixels - 0.498) / 0.502, network.conv_stem.weight, stride=2))


@pytest.mark.parametrize("fused", [True, False])
def test_maps_are_those_of_timm_with_batch_norms(network, folded, fused, monkeypatch):
    monkeypatch.setattr(stem, "_FUSED", fused and stem._FUSED)
    images = torch.randn(5, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x = first_map(network, images)
        expected = []
        for stage, blocks in zip(STAGES, network.blocks, strict=True):
            x = blocks(x)
            expected += [x] if stage.read else []
        actual = folded.maps(images)
    with_gradient = folded.maps(images)
    for mine, theirs, third in zip(actual, expected, with_gradient, strict=True):
        tolerance = 1e-4 * float(theirs.abs().max())
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=0)
        torch.testing.assert_close(third, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "stride", "by_channel", "clips"),
    [(1, 1, False, True), (1, 1, False, False), (3, 1, True, True), (5, 1, True, True), (5, 2, True, True)],
)
def test_fast_gradients_are_autograds(kernel, stride, by_channel, clips):
    torch.manual_seed(kernel + stride)
    outputs = 6 if by_channel else 10
    conv = SameConv(6, outputs, kernel, stride, groups=6 if by_channel else 1, clips=clips)
    images = torch.randn(2, 6, 12, 12).contiguous(memory_format=torch.channels_last) * 3
    mine, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    actual = conv(mine)
    direction = torch.randn_like(actual)
    gradients = torch.autograd.grad(actual, [mine, conv.weight, conv.bias], direction)
    weight = conv.weight if stride == 1 else F.pad(conv.weight, (1, 0, 1, 0))
    expected = F.conv2d(theirs, weight, conv.bias, stride, kernel // 2, groups=conv.groups)
    expected = F.relu6(expected) if clips else expected
    torch.testing.assert_close(actual, expected)
    expected_gradients = torch.autograd.grad(expected, [theirs, conv.weight, conv.bias], direction)
    for mine_, theirs_ in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine_, theirs_, atol=1e-4, rtol=1e-4)


def test_a_gradient_that_is_not_asked_for_is_not_made():
    conv = SameConv(4, 4, 3, groups=4)
    conv.weight.requires_grad_(False)
    images = torch.randn(1, 4, 8, 8, requires_grad=True)
    conv(images).sum().backward()
    assert images.grad is not None
    assert conv.weight.grad is None


def test_cell_moments_are_mean_and_standard_deviation_of_each_cell():
    x = torch.randn(2, 3, 8, 8)
    actual = cell_moments(x, 2)
    cells = x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).transpose(3, 4).flatten(4)
    torch.testing.assert_close(actual[:, :3], cells.mean(dim=-1))
    torch.testing.assert_close(actual[:, 3:], (cells.var(dim=-1, unbiased=False) + 1e-4).sqrt())
    torch.testing.assert_close(cell_moments(x, 8), x)


def test_tokens_do_not_depend_on_the_pieces_that_they_are_computed_in(folded):
    images = torch.randn(stem.PIECE_IMAGES + 3, 3, 64, 64)
    small = LiteTokens(64, 8)
    with torch.no_grad():
        whole = small(images)
        one_by_one = torch.cat([small(image[None]) for image in images])
    torch.testing.assert_close(whole, one_by_one, atol=1e-4, rtol=1e-4)
