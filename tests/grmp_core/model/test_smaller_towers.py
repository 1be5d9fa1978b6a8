"""Towers that are cut out of grmp-nano."""

from __future__ import annotations

import open_clip
import pytest
import torch
import torch.nn.functional as F

from grmp_core.errors import InputError
from grmp_core.inspection.leaks import training_hashes
from grmp_core.model.backbone import load_backbone
from grmp_core.model.nano_stages import StemCut
from grmp_core.model.nano_stem import LiteTokens
from grmp_core.model.nano_trunk import SIZES, model_config
from grmp_core.model.settings import EMBEDDED, BackboneConfig
from grmp_core.model.vision_tower import open_vision_tower

SMALLER = [name for name in SIZES if name != EMBEDDED]


def test_a_cut_stem_has_the_whole_ones_features_of_its_stages():
    torch.manual_seed(0)
    whole, cut = LiteTokens(224, 8), LiteTokens(224, 8, cut=StemCut(stages=5))
    cut.load_state_dict(
        {n: t for n, t in whole.state_dict().items() if n.startswith(("first", "stages"))}, strict=False
    )
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = whole.cells(images)[..., cut.cut.columns()]
        torch.testing.assert_close(cut.cells(images), expected)


@pytest.mark.parametrize(("shrink", "stages"), [(2, 5), (4, 3)])
def test_a_shrunk_picture_is_seen_as_the_whole_stem_sees_it(shrink, stages):
    """Of the last map there is a value a cell and no spread; the other maps are those of the smaller picture."""
    torch.manual_seed(0)
    side = 224 // shrink
    cut = LiteTokens(224, 8, cut=StemCut(shrink=shrink, stages=stages))
    own = LiteTokens(224, 8)
    own.load_state_dict({n: t for n, t in cut.state_dict().items() if n.startswith(("first", "stages"))}, strict=False)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        maps = own.maps(F.avg_pool2d(images, shrink))
        cells = cut.cells(images)
    assert cells.shape == (1, 49, len(cut.cut.columns()))
    torch.testing.assert_close(cells[..., :16], F.avg_pool2d(maps[0], side // 2 // 7).flatten(2).transpose(1, 2))
    last = maps[{3: 2, 5: 3}[stages]]
    torch.testing.assert_close(cells[..., -last.shape[1] :], last.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("shrink", [2, 4])
def test_shrinking_in_bfloat16_rounds_once(shrink):
    cut = LiteTokens(224, 8, cut=StemCut(shrink=shrink, stages=3)).bfloat16()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)).bfloat16()
    seen = []
    cut.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        cut.maps(images)
    torch.testing.assert_close(seen[0], F.avg_pool2d(images.float(), shrink).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("name", SMALLER)
def test_smaller_towers_begin_with_the_embedded_weights(name):
    whole, small = (load_backbone(BackboneConfig(name=n)).clip for n in (EMBEDDED, name))
    assert open_clip.get_model_config(name) == model_config(name)
    assert len(open_vision_tower(small).blocks) == SIZES[name].blocks
    state, own = whole.state_dict(), small.state_dict()
    changed = {key for key, tensor in own.items() if not torch.equal(tensor, state[key])}
    assert {key.rpartition("patch_embed.")[2] for key in changed} <= {"center_F", "scale_F", "proj.weight"}
    sizes = [sum(p.numel() for p in clip.get_submodule("visual").parameters()) for clip in (whole, small)]
    assert sizes[1] < sizes[0]
    assert (training_hashes(name) == training_hashes(EMBEDDED)).all()


def test_a_smaller_tower_has_no_tags():
    with pytest.raises(InputError, match="grmp-nano-xs is embedded and has no tags"):
        load_backbone(BackboneConfig(name="grmp-nano-xs", pretrained="openai"))
