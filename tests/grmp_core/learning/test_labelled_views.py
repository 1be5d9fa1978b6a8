"""Tokens of several prefixes in one pass, and tokens that stay in a file, against the plain way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from grmp_core.learning.few_shot import adapt, predict_quality
from grmp_core.learning.labelled_views import Prefix, TokenRows, encode_views, prepare_views
from grmp_core.learning.settings import AdaptConfig
from grmp_core.model.backbone import load_backbone
from grmp_core.model.quality_model import QualityModel
from grmp_core.model.settings import BackboneConfig, PromptConfig, TrainableConfig
from grmp_core.procedural import scenes


def images(count: int, views: int, size_px: int = 32) -> np.ndarray:
    drawn = [[scenes.reference(10 * i + v, 256, 256) for v in range(views)] for i in range(count)]
    return np.array(drawn)[:, :, :size_px, :size_px]


@pytest.mark.parametrize("name", ["tiny-quickgelu", "tiny-resnet"])
def test_prefixes_of_one_pass_give_the_tokens_of_passes_of_their_own(make_backbone, name):
    backbone = make_backbone(name)
    train, score = images(3, 2), images(3, 4)
    models = [
        QualityModel(backbone, PromptConfig(visual_tokens=tokens), seed=seed, trainable=TrainableConfig(**trainable))
        for tokens, seed, trainable in (
            (4, 0, {"vision_blocks": 0}),
            (4, 0, {"vision_blocks": 2}),
            (4, 1, {"vision_blocks": 2}),
            (0, 0, {"vision_blocks": 1}),
            (4, 1, {"visual_prompts": True}),
        )
        if tokens == 0 or name == "tiny-quickgelu"
    ]
    starts = [model.prompt_parameters() for model in models]
    prefixes = [Prefix.of(*pair) for pair in zip(models, starts, strict=True)]
    together = encode_views(models[0], prefixes, train, score)
    for i, (model, start) in enumerate(zip(models, starts, strict=True)):
        alone = prepare_views(model, start, train, score, np.zeros(3), list("abc"))
        flat = torch.from_numpy(train).flatten(0, 1)
        expected = model.prefix_tokens(start, flat, model.first_adapting_block).unflatten(0, (3, 2))
        for tokens in (together.train_tokens_NVTD[i], alone.train_tokens_NVTD):
            torch.testing.assert_close(tokens, expected, rtol=0, atol=0)
        torch.testing.assert_close(together.score_tokens_NGTD[i], alone.score_tokens_NGTD, rtol=0, atol=0)
        torch.testing.assert_close(together.teacher_logits_NVS, alone.teacher_logits_NVS, rtol=0, atol=0)
        torch.testing.assert_close(together.statistics_NF, alone.statistics_NF, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_adaptation_from_stored_rows_is_that_from_tensors(dtype):
    """To the last bit from float32, and within 1e-4 in quality from float16, with the embedded backbone."""
    trainable = TrainableConfig(vision_blocks=2)
    model = QualityModel(load_backbone(BackboneConfig()), PromptConfig(), trainable=trainable)
    start = model.prompt_parameters()
    quality = np.linspace(0.1, 0.9, 6)
    train, score = (images(6, count, model.image_size_px) for count in (1, 2))
    plain = prepare_views(model, start, train, score, quality, [str(i) for i in range(6)])
    backwards = torch.arange(5, -1, -1)

    def stored(tokens: torch.Tensor) -> TokenRows:
        return TokenRows(stored=tokens[backwards].to(dtype), rows=backwards, dtype=torch.float32)

    views = dataclasses.replace(
        plain, train_tokens_NVTD=stored(plain.train_tokens_NVTD), score_tokens_NGTD=stored(plain.score_tokens_NGTD)
    )
    config = AdaptConfig(epochs=1, folds=2, batch_size=4, lr=0.05, trainable=trainable)
    adapted = [adapt(model, model.adaptable_parameters(start), one, config, 0) for one in (plain, views)]
    expected, ours = (
        predict_quality(model, result.parameters, one.score_tokens_NGTD, batch_size=5)
        for result, one in zip(adapted, (plain, views), strict=True)
    )
    tolerance = 0 if dtype == torch.float32 else 1e-4
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(adapted[1].held_out_N, adapted[0].held_out_N, rtol=0, atol=tolerance)
